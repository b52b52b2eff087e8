"""3D alpha mattes of lung nodules: the solvers as functions, releases as data sets, their scores.

::

    import halosign

    solutions = halosign.estimate_alphas(volume_hu, trimap, spacing_mm=0.5)
    nodules = halosign.ReleaseDataset(halosign.open_release("./store", "0.1.0"), "train", seed=1)

The names are imported on first use, so that the solvers load without torch and releases without
the compiled solvers. They also work beside other packages called ``storage``, ``tasks`` and so on:
see `halosign.isolation`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from halosign.isolation import home_of

if TYPE_CHECKING:
    from flows.score_predictions import score
    from matting.errors import InputError
    from matting.estimate import METHODS, estimate_alphas, solve
    from matting.geometry.trimap import build_trimap
    from matting.parameters import Parameters
    from matting.solvers.conjugate_gradient import Solution, Status
    from storage.errors import CorruptionError
    from storage.releases.reader import ReleaseReader
    from storage.releases.release import Release, open_release
    from storage.releases.torch_dataset import ReleaseDataset

__all__ = [
    "METHODS",
    "CorruptionError",
    "InputError",
    "Parameters",
    "Release",
    "ReleaseDataset",
    "ReleaseReader",
    "Solution",
    "Status",
    "build_trimap",
    "estimate_alphas",
    "open_release",
    "score",
    "solve",
]

_HOMES = {
    "METHODS": "matting.estimate",
    "CorruptionError": "storage.errors",
    "InputError": "matting.errors",
    "Parameters": "matting.parameters",
    "Release": "storage.releases.release",
    "ReleaseDataset": "storage.releases.torch_dataset",
    "ReleaseReader": "storage.releases.reader",
    "Solution": "matting.solvers.conjugate_gradient",
    "Status": "matting.solvers.conjugate_gradient",
    "build_trimap": "matting.geometry.trimap",
    "estimate_alphas": "matting.estimate",
    "open_release": "storage.releases.release",
    "score": "flows.score_predictions",
    "solve": "matting.estimate",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("halosign")
    if name not in _HOMES:
        raise AttributeError(f"module 'halosign' has no attribute {name!r}")
    found = getattr(import_module(home_of(_HOMES[name])), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
