"""The eight methods as functions on arrays: checks, the region they work on, and the solve.

Four ways to say which voxels belong together (closed form, KNN, learning based, information flow), each with known
foreground held at 1 (cf, knn, lb, if) or at its radiodensity target of Eq. 28 (cf+, knn+, lb+, if+). Both forms of a
method share its operator and are solved together.
"""

import difflib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Vector
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.methods import closed_form, information_flow, knn, learning_based
from matting.parameters import Parameters
from matting.solvers.coarse_correction import CoarseBasis, blocks_of
from matting.solvers.conjugate_gradient import (
    KnownValues,
    LinearSystem,
    RhsSolution,
    Solution,
    Status,
    solve_problem,
)
from matting.solvers.foreground_target import foreground_target
from matting.solvers.region import SolveDomain, region_around

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")
"""The eight, in the order in which they are stored."""
SMALLEST_SIDE = 3
"""Voxels a volume needs along each axis: less holds no window of 3 x 3 x 3."""
SETTLED = (Status.CONVERGED, 0, 0.0, 0.0)
"""Status, iterations, residual and clipped amount where nothing is unknown."""
_BUILDERS: dict[str, Callable[[SolveDomain, Parameters, KnownValues], LinearSystem]] = {
    "cf": lambda region, parameters, targets: closed_form.build(
        region, parameters.closed_form, targets
    ),
    "knn": lambda region, parameters, _: knn.build(region, parameters.knn),
    "lb": lambda region, parameters, targets: learning_based.build(
        region, parameters.learning_based, targets
    ),
    "if": lambda region, parameters, targets: information_flow.build(
        region, parameters.information_flow, targets
    ),
}


def estimate_alphas(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    *,
    spacing_mm: Vector,
    methods: Sequence[str] = METHODS,
    parameters: Parameters | None = None,
) -> dict[str, Solution]:
    """Estimate the mattes of one volume by several methods.

    Args:
        volume_hu: (z, y, x), radiodensity in HU.
        trimap: (z, y, x), uint8: BACKGROUND, UNKNOWN or FOREGROUND.
        spacing_mm: Voxel spacing along (z, y, x).
        methods: Names from METHODS.
        parameters: Everything that can be turned; the defaults if None.

    Returns:
        For each method, in the order asked for, its matte with status and numbers; one that did not converge is
        returned with its status, not raised. Without unknown voxels the matte is the known values themselves.

    Raises:
        InputError: Shapes differ, a value is not finite, a label or method is unheard of, a spacing is not positive, or
            foreground or background is missing.
    """
    parameters = parameters or Parameters()
    _check_methods(methods)
    _check_volume(volume_hu, trimap, spacing_mm)
    if not (trimap == UNKNOWN).any():
        return {
            name: Solution(_known(name, volume_hu, trimap, parameters), *SETTLED)
            for name in methods
        }
    region = region_around(
        volume_hu,
        trimap,
        spacing_mm=spacing_mm,
        margin_mm=parameters.solver.search_margin_mm,
        mean_reach_mm=_mean_reach_mm(parameters),
        position_scale_mm=parameters.solver.position_scale_mm,
        range_hu=parameters.solver.intensity_range_hu,
        curve=parameters.solver.intensity_curve,
    )
    solved: dict[str, Solution] = {}
    blocks = blocks_of(region.unknown, region.intensity)
    for family in dict.fromkeys(name.removesuffix("+") for name in methods):
        names = [name for name in (family, family + "+") if name in methods]
        within = [
            _known(name, volume_hu[region.box], trimap[region.box], parameters) for name in names
        ]
        columns = _solve_family(
            family, region, blocks, parameters, np.stack(within, axis=-1).reshape(-1, len(names))
        )
        for name, known, column in zip(names, within, columns, strict=True):
            alpha = _beyond(region, name, volume_hu, trimap, parameters)
            known.ravel()[column.voxels] = column.values
            alpha[region.box] = known
            solved[name] = Solution(
                alpha, column.status, column.iterations, column.residual, column.clipped
            )
    return {name: solved[name] for name in methods}


def solve(
    method: str,
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    *,
    spacing_mm: Vector,
    parameters: Parameters | None = None,
) -> Solution:
    """Estimate the matte of one volume by one method; see `estimate_alphas`."""
    return estimate_alphas(
        volume_hu, trimap, spacing_mm=spacing_mm, methods=(method,), parameters=parameters
    )[method]


def _solve_family(
    family: str,
    region: SolveDomain,
    blocks: CoarseBasis,
    parameters: Parameters,
    known: NDArray[np.float64],
) -> list[RhsSolution]:
    """Solve the forms asked for; `known` gives S for (voxels of the region, forms)."""

    def targets(voxels: NDArray[np.int64]) -> NDArray[np.float64]:
        return known[voxels]

    with np.errstate(all="raise", under="ignore"):
        problem = _BUILDERS[family](region, parameters, targets)
    return solve_problem(problem, targets, parameters.solver, blocks)


def _known(
    method: str, volume_hu: NDArray[np.floating], trimap: NDArray[np.uint8], parameters: Parameters
) -> NDArray[np.float64]:
    """Give S: 0 but on known foreground, there 1 or the radiodensity target."""
    foreground = trimap == FOREGROUND
    known: NDArray[np.float64] = foreground.astype(np.float64, order="C")
    if method.endswith("+"):
        known[foreground] = foreground_target(volume_hu[foreground], parameters.density)
    return known


def _beyond(
    region: SolveDomain,
    method: str,
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    parameters: Parameters,
) -> NDArray[np.float64]:
    """Give S on the whole patch where foreground lies beyond the region, else zeros, which take no memory yet."""
    if np.count_nonzero(trimap == FOREGROUND) > np.count_nonzero(region.foreground):
        return _known(method, volume_hu, trimap, parameters)
    return np.zeros(trimap.shape)


def _mean_reach_mm(parameters: Parameters) -> float:
    """Give how far any method's second channel looks."""
    return max(
        parameters.closed_form.mean_reach_mm,
        parameters.learning_based.mean_reach_mm,
        parameters.information_flow.local_mean_reach_mm,
    )


def _check_methods(methods: Sequence[str]) -> None:
    for name in methods:
        if name not in METHODS:
            near = difflib.get_close_matches(name.lower(), METHODS, n=1, cutoff=0.0)
            raise InputError(
                "no such method",
                got=repr(name),
                expected=f"one of {', '.join(METHODS)}",
                remedy=f"Did you mean {near[0]!r}?",
            )


def _check_volume(
    volume_hu: NDArray[np.floating], trimap: NDArray[np.uint8], spacing_mm: Vector
) -> None:
    if volume_hu.ndim != 3 or min(volume_hu.shape) < SMALLEST_SIDE:
        raise InputError(
            "the volume is too small for windows of 3 x 3 x 3 voxels",
            got=volume_hu.shape,
            expected=f"(z, y, x), each at least {SMALLEST_SIDE}",
            remedy="Crop with more margin around the lesion.",
        )
    if trimap.shape != volume_hu.shape:
        raise InputError(
            "the trimap does not fit the volume",
            got=trimap.shape,
            expected=volume_hu.shape,
            remedy="Give both on one lattice.",
        )
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise InputError(
            "voxel spacing must be positive",
            got=spacing_mm,
            expected="three lengths in mm above 0",
            remedy="Check the image header.",
        )
    if not np.isfinite(volume_hu).all():
        raise InputError(
            "the volume holds values that are no radiodensity",
            got=f"{int((~np.isfinite(volume_hu)).sum())} voxels NaN or infinite",
            expected="finite HU",
            remedy="Replace what was not measured by air (-1000 HU).",
        )
    _check_labels(trimap)


def _check_labels(trimap: NDArray[np.uint8]) -> None:
    strange = (trimap != BACKGROUND) & (trimap != UNKNOWN) & (trimap != FOREGROUND)
    if strange.any():
        raise InputError(
            "the trimap holds unknown labels",
            got=np.unique(trimap[strange])[:5].tolist(),
            expected=f"{BACKGROUND} background, {UNKNOWN} unknown, {FOREGROUND} foreground",
            remedy="Build it with matting.geometry.trimap.build_trimap.",
        )
    for name, label in (("foreground", FOREGROUND), ("background", BACKGROUND)):
        if not (trimap == label).any():
            raise InputError(
                f"the trimap has no {name}",
                got=f"no voxel {label}",
                expected="at least one",
                remedy="Dilate the unknown region less.",
            )
