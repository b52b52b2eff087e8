"""The eight methods as functions on arrays: checks, the domain they work on, and the solve.

Four definitions of which voxels belong together (closed form, KNN, learning based, information
flow), each with known foreground at 1 (cf, knn, lb, if) or at its radiodensity target of Eq. 28
(cf+, knn+, lb+, if+). Both forms of a method share its operator and are solved together.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.array_input import read_spacing
from matting.geometry.grid import Vector
from matting.geometry.trimap import FOREGROUND, UNKNOWN
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
from matting.solvers.reader_prior import reader_prior, with_prior
from matting.solvers.solve_domain import SolveDomain, solve_domain_around
from matting.targets import Target, family_of, target_of
from matting.volume_input import (
    check_methods,
    check_parameters,
    check_reach,
    check_scale,
    read_readers,
    read_trimap,
    read_volume,
)

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")
"""The eight, in the order in which they are stored."""
NOTHING_TO_SOLVE = (Status.CONVERGED, 0, 0.0, 0.0)
"""Status, iterations, residual and clipped amount where nothing is unknown."""
_BUILDERS: dict[str, Callable[[SolveDomain, Parameters, KnownValues], LinearSystem]] = {
    "cf": lambda domain, parameters, _: closed_form.build(domain, parameters.closed_form),
    "knn": lambda domain, parameters, _: knn.build(domain, parameters.knn),
    "lb": lambda domain, parameters, _: learning_based.build(domain, parameters.learning_based),
    "if": lambda domain, parameters, known_values: information_flow.build(
        domain, parameters.information_flow, known_values
    ),
}


def estimate_alphas(
    volume_hu: ArrayLike,
    trimap: ArrayLike,
    *,
    spacing_mm: float | Sequence[float],
    methods: str | Iterable[str] = METHODS,
    parameters: Parameters | None = None,
    readers: ArrayLike | None = None,
) -> dict[str, Solution]:
    """Estimate the mattes of one volume by several methods.

    Args:
        volume_hu: (z, y, x), radiodensity in HU, finite, at least 3 voxels along each axis; real
            numbers of any precision, order in memory and byte order. Never modified. Only values
            without any below 0 are known not to be HU here, since a crop may have any contrast;
            `matting.geometry.hounsfield.check_hounsfield` holds a nodule with its surroundings
            against what chest CT has.
        trimap: (z, y, x), BACKGROUND, UNKNOWN or FOREGROUND, as numbers of any type.
        spacing_mm: Voxel spacing along (z, y, x), above 0, or one number for cubic voxels.
        methods: A name from METHODS or several; one named twice is answered once.
        parameters: All settings; the paper form if None.
        readers: (readers, z, y, x), what each reader marked, as truth values or 0 and 1. Only the
            readers' prior of the improved form uses them; it is left out if None.

    Returns:
        For each method, in the order asked for, its matte with status and numbers. A method that
        did not converge is returned with its status, not raised. Without unknown voxels the matte
        is the known values themselves.

    Raises:
        InputError: Shapes differ, a value is not finite, masked, no real number or not in HU, a
            label or method is unknown, a spacing is not positive or hardly in mm, foreground or
            background is missing, a reader marked nothing or not a mask, or an argument is of
            another type.
    """
    names_asked = check_methods(methods, METHODS)
    settings = check_parameters(parameters)
    volume = read_volume(volume_hu)
    labels = read_trimap(trimap, volume.shape)
    spacing = read_spacing(spacing_mm)
    check_reach(_mean_reach_mm(settings), spacing, volume.shape)
    check_scale(volume, settings.solver.intensity_range_hu)
    masks = None if readers is None else read_readers(readers, volume.shape)
    return _estimate(volume, labels, masks, spacing, names_asked, settings)


def _estimate(
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    readers: NDArray[np.bool_] | None,
    spacing_mm: Vector,
    methods: tuple[str, ...],
    parameters: Parameters,
) -> dict[str, Solution]:
    """Estimate the mattes of checked input."""
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
    prior = None
    if readers is not None and parameters.prior.used:
        prior = reader_prior(
            volume_hu, trimap, readers, spacing_mm=spacing_mm, settings=parameters.prior
        )
    families = dict.fromkeys(family_of(name) for name in methods)
    _announce_searches(domain, families, parameters)
    solved: dict[str, Solution] = {}
    basis = coarse_basis(domain.unknown, domain.intensity)
    known_of = _known_within(domain, methods, volume_hu, trimap, parameters)
    all_within = np.count_nonzero(trimap == FOREGROUND) == np.count_nonzero(domain.foreground)
    for family in families:
        names = [name for name in (family, family + "+") if name in methods]
        known = np.stack([known_of[target_of(name)] for name in names], axis=-1)
        as_foreground = _as_foreground(domain, names, volume_hu, parameters)
        columns = _solve_family(family, domain, basis, parameters, known, as_foreground, prior)
        for name, column in zip(names, columns, strict=True):
            if all_within:
                alpha = _known_values_only(domain, known_of[target_of(name)], trimap.shape)
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
    volume_hu: ArrayLike,
    trimap: ArrayLike,
    *,
    spacing_mm: float | Sequence[float],
    parameters: Parameters | None = None,
    readers: ArrayLike | None = None,
) -> Solution:
    """Estimate the matte of one volume by one method.

    Args:
        method: One of METHODS.
        volume_hu: (z, y, x), radiodensity in HU.
        trimap: (z, y, x), BACKGROUND, UNKNOWN or FOREGROUND.
        spacing_mm: Voxel spacing along (z, y, x), above 0, or one number for cubic voxels.
        parameters: All settings; the paper form if None.
        readers: (readers, z, y, x), what each reader marked; see `estimate_alphas`.

    Returns:
        The matte with status and numbers.

    Raises:
        InputError: As `estimate_alphas`.
    """
    return estimate_alphas(
        volume_hu,
        trimap,
        spacing_mm=spacing_mm,
        methods=(method,),
        parameters=parameters,
        readers=readers,
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
    as_foreground: KnownValues,
    prior: NDArray[np.float64] | None,
) -> list[RhsSolution]:
    """Solve the forms of a method.

    Args:
        family: Its plain form's name.
        domain: The voxels to solve and their surroundings.
        basis: Of the coarse correction.
        parameters: All settings.
        known: S, (voxels of the domain, forms).
        as_foreground: S of voxels as known foreground, also of unknown ones, which data terms read.
        prior: (unknown,), what the readers suggest; None to leave it out.

    Returns:
        One answer for each form.
    """

    def known_values(voxels: NDArray[np.int64]) -> NDArray[np.float64]:
        return known[voxels]

    with np.errstate(all="raise", under="ignore"):
        system = _BUILDERS[family](domain, parameters, as_foreground)
    strength = _prior_strength(family, parameters)
    if prior is not None and strength:
        system = with_prior(system, prior, strength, known[domain.foreground.ravel()].mean(axis=0))
    return solve_system(system, known_values, parameters.solver, basis)


def _prior_strength(family: str, parameters: Parameters) -> float:
    prior = parameters.prior
    return {
        "cf": prior.closed_form,
        "knn": prior.knn,
        "lb": prior.learning_based,
        "if": prior.information_flow,
    }[family]


def _known_matte(
    method: str, volume_hu: NDArray[np.floating], trimap: NDArray[np.uint8], parameters: Parameters
) -> NDArray[np.float64]:
    """Return S: 1 or the radiodensity target on known foreground, 0 elsewhere."""
    foreground = trimap == FOREGROUND
    known: NDArray[np.float64] = foreground.astype(np.float64, order="C")
    known[foreground] = _foreground_values(method, volume_hu[foreground], parameters)
    return known


def _foreground_values(
    method: str, hu: NDArray[np.floating], parameters: Parameters
) -> NDArray[np.float64]:
    """Return S of known foreground: 1, or the radiodensity target in the optimised forms."""
    dense = target_of(method) == "density"
    return foreground_target(hu, parameters.density) if dense else np.ones(hu.shape)


def _as_foreground(
    domain: SolveDomain,
    names: Sequence[str],
    volume_hu: NDArray[np.floating],
    parameters: Parameters,
) -> KnownValues:
    """Return a function that gives S of voxels of the domain as if they were known foreground."""

    def as_foreground(voxels: NDArray[np.int64]) -> NDArray[np.float64]:
        hu = volume_hu[domain.box][np.unravel_index(voxels, domain.shape)]
        return np.stack([_foreground_values(name, hu, parameters) for name in names], axis=-1)

    return as_foreground


def _known_within(
    domain: SolveDomain,
    methods: Sequence[str],
    volume_hu: NDArray[np.floating],
    trimap: NDArray[np.uint8],
    parameters: Parameters,
) -> dict[Target, NDArray[np.float64]]:
    """Return S on the voxels of the domain, flat, for each question that the methods answer."""
    within = (volume_hu[domain.box], trimap[domain.box], parameters)
    one_of = {target_of(method): method for method in methods}
    return {target: _known_matte(method, *within).ravel() for target, method in one_of.items()}


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
