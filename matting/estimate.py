"""The eight methods as functions on arrays: checks, the domain they work on, and the solve.

Four definitions of which voxels belong together (closed form, KNN, learning based, information
flow), each with known foreground at 1 (cf, knn, lb, if) or at its radiodensity target of Eq. 28
(cf+, knn+, lb+, if+). Both forms of a method share its operator and are solved together.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Vector
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.methods import closed_form, information_flow, knn, learning_based
from matting.parameters import Parameters
from matting.solvers.coarse_correction import CoarseBasis, coarse_basis
from matting.solvers.conjugate_gradient import (
    KnownValues,
    LinearSystem,
    RhsSolution,
    Solution,
    Status,
    solve_system,
)
from matting.solvers.foreground_target import foreground_target
from matting.solvers.solve_domain import SolveDomain, solve_domain_around

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")
"""The eight, in the order in which they are stored."""
SMALLEST_SIDE = 3
"""Voxels that a volume needs along each axis to hold a window of 3 x 3 x 3."""
NOTHING_TO_SOLVE = (Status.CONVERGED, 0, 0.0, 0.0)
"""Status, iterations, residual and clipped amount where nothing is unknown."""
_BUILDERS: dict[str, Callable[[SolveDomain, Parameters, KnownValues], LinearSystem]] = {
    "cf": lambda domain, parameters, known_values: closed_form.build(
        domain, parameters.closed_form, known_values
    ),
    "knn": lambda domain, parameters, _: knn.build(domain, parameters.knn),
    "lb": lambda domain, parameters, known_values: learning_based.build(
        domain, parameters.learning_based, known_values
    ),
    "if": lambda domain, parameters, known_values: information_flow.build(
        domain, parameters.information_flow, known_values
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
        volume_hu: (z, y, x), radiodensity in HU, finite, at least 3 voxels along each axis.
        trimap: (z, y, x), uint8: BACKGROUND, UNKNOWN or FOREGROUND.
        spacing_mm: Voxel spacing along (z, y, x), above 0.
        methods: Names from METHODS.
        parameters: All settings; the defaults if None.

    Returns:
        For each method, in the order asked for, its matte with status and numbers. A method that
        did not converge is returned with its status, not raised. Without unknown voxels the matte
        is the known values themselves.

    Raises:
        InputError: Shapes differ, a value is not finite, a label or method is unknown, a spacing is
            not positive, or foreground or background is missing.
    """
    parameters = parameters or Parameters()
    _check_methods(methods)
    _check_volume(volume_hu, trimap, spacing_mm)
    if not (trimap == UNKNOWN).any():
        return {
            name: Solution(_known_matte(name, volume_hu, trimap, parameters), *NOTHING_TO_SOLVE)
            for name in methods
        }
    domain = solve_domain_around(
        volume_hu,
        trimap,
        spacing_mm=spacing_mm,
        margin_mm=parameters.solver.search_margin_mm,
        mean_reach_mm=_mean_reach_mm(parameters),
        position_scale_mm=parameters.solver.position_scale_mm,
        range_hu=parameters.solver.intensity_range_hu,
        intensity_curve=parameters.solver.intensity_curve,
    )
    families = dict.fromkeys(name.removesuffix("+") for name in methods)
    _announce_searches(domain, families, parameters)
    solved: dict[str, Solution] = {}
    basis = coarse_basis(domain.unknown, domain.intensity)
    known_of = _known_within(domain, methods, volume_hu, trimap, parameters)
    all_within = np.count_nonzero(trimap == FOREGROUND) == np.count_nonzero(domain.foreground)
    for family in families:
        names = [name for name in (family, family + "+") if name in methods]
        known = np.stack([known_of[name.endswith("+")] for name in names], axis=-1)
        columns = _solve_family(family, domain, basis, parameters, known)
        for name, column in zip(names, columns, strict=True):
            if all_within:
                alpha = _known_values_only(domain, known_of[name.endswith("+")], trimap.shape)
            else:
                alpha = _known_matte(name, volume_hu, trimap, parameters)
            place = np.unravel_index(column.voxels, domain.shape)
            alpha[domain.box][place] = column.values
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
    """Estimate the matte of one volume by one method.

    Args:
        method: One of METHODS.
        volume_hu: (z, y, x), radiodensity in HU.
        trimap: (z, y, x), uint8: BACKGROUND, UNKNOWN or FOREGROUND.
        spacing_mm: Voxel spacing along (z, y, x), above 0.
        parameters: All settings; the defaults if None.

    Returns:
        The matte with status and numbers.

    Raises:
        InputError: As `estimate_alphas`.
    """
    return estimate_alphas(
        volume_hu, trimap, spacing_mm=spacing_mm, methods=(method,), parameters=parameters
    )[method]


def _announce_searches(
    domain: SolveDomain, families: Iterable[str], parameters: Parameters
) -> None:
    """Announce the searches of the methods to come, for those that share one."""
    searches = []
    if "knn" in families:
        searches += knn.searches(domain, parameters.knn)
    if "if" in families:
        searches += information_flow.searches(domain, parameters.information_flow)
    for count, metric in searches:
        domain.search.announce(count, metric)


def _solve_family(
    family: str,
    domain: SolveDomain,
    basis: CoarseBasis,
    parameters: Parameters,
    known: NDArray[np.float64],
) -> list[RhsSolution]:
    """Solve the forms of a method; `known` is S, (voxels of the domain, forms)."""

    def known_values(voxels: NDArray[np.int64]) -> NDArray[np.float64]:
        return known[voxels]

    with np.errstate(all="raise", under="ignore"):
        system = _BUILDERS[family](domain, parameters, known_values)
    return solve_system(system, known_values, parameters.solver, basis)


def _known_matte(
    method: str, volume_hu: NDArray[np.floating], trimap: NDArray[np.uint8], parameters: Parameters
) -> NDArray[np.float64]:
    """Return S: 1 or the radiodensity target on known foreground, 0 elsewhere."""
    foreground = trimap == FOREGROUND
    known: NDArray[np.float64] = foreground.astype(np.float64, order="C")
    if method.endswith("+"):
        known[foreground] = foreground_target(volume_hu[foreground], parameters.density)
    return known


def _known_within(
    domain: SolveDomain,
    methods: Sequence[str],
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    parameters: Parameters,
) -> dict[bool, NDArray[np.float64]]:
    """Return S on the voxels of the domain, flat, for the plain and the optimised forms in use."""
    within = (volume_hu[domain.box], trimap[domain.box], parameters)
    return {
        form == "+": _known_matte(form, *within).ravel()
        for form in {"+" if method.endswith("+") else "" for method in methods}
    }


def _known_values_only(
    domain: SolveDomain, known: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return S on the whole patch where all foreground lies within the domain.

    Zeros take no memory until they are written, so only foreground is written.
    """
    alpha = np.zeros(shape)
    alpha[domain.box][domain.foreground] = known[domain.foreground.ravel()]
    return alpha


def _mean_reach_mm(parameters: Parameters) -> float:
    """Return the largest reach of any method's second channel."""
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
            remedy="Resample both to one grid.",
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
