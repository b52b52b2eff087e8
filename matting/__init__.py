"""Functions on arrays: crop, resample, trimap, the eight mattes of a nodule, and their metrics.

    from matting import METHODS, estimate_alphas

    solutions = estimate_alphas(volume_hu, trimap, spacing_mm=(0.5, 0.5, 0.5))
    solutions["if+"].alpha

The names are imported on first use, so that geometry loads without the compiled solvers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matting.errors import InputError
    from matting.estimate import METHODS, estimate_alphas, solve
    from matting.parameters import Parameters
    from matting.solvers.conjugate_gradient import Solution, Status

__all__ = ["METHODS", "InputError", "Parameters", "Solution", "Status", "estimate_alphas", "solve"]

_HOMES = {
    "METHODS": ".estimate",
    "Parameters": ".parameters",
    "InputError": ".errors",
    "Solution": ".solvers.conjugate_gradient",
    "Status": ".solvers.conjugate_gradient",
    "estimate_alphas": ".estimate",
    "solve": ".estimate",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'matting' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
