"""From a stored case to its section of the report."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from matting.geometry.grid import Vector
from matting.phantoms import Ratings
from qc.figures.drawing import Subject, draw_anatomy, draw_mattes, png
from qc.report.errors import BASELINES, Measured
from qc.report.page import Method, Nodule
from storage.cases.case import Case
from storage.records import CaseFacts, LidcFacts, Outcome, Rating

TABLE_WORDS = {
    "rank": "order by the candidate figures, which know no truth; 1 is best",
    "iterations": "steps the solver took",
    "residual": "what was left of the equations when the solver stopped, relative to their right-hand side",
    "clipped": "how far the matte left the range 0 to 1 at worst, before it was clipped to it; lower is better",
    "error": "mean absolute difference to the known alpha in the unknown region; only simulated CT has one; lower is"
    " better",
    "regret": "error of the picked matte minus the smallest error of all methods; 0 means that the pick was the best",
}
"""The words of the tables."""

_AGREEMENT = (
    "disagreement with the readers: cross-entropy against the mean of their masks; lower is better"
)
_COMPOSITING = "how badly the CT is explained as a mix, by this matte, of smooth lesion and smooth surroundings; lower is better"
_CONTINUITY = "how rough the matte is from slice to slice; lower is better"
_OUTSIDE = "share of the matte that lies outside everything the readers marked; lower is better"
METRIC_LABELS = {
    "agreement": _AGREEMENT,
    "cross_entropy": _AGREEMENT,
    "compositing": _COMPOSITING,
    "compositing_residual": _COMPOSITING,
    "continuity": _CONTINUITY,
    "slice_roughness": _CONTINUITY,
    "outside": _OUTSIDE,
    "mass_outside": _OUTSIDE,
}
"""The candidate figures that are known here; others are shown without a word."""

UNRATED = "unrated"


def describe(case: Case, outcome: Outcome, pick: str | None, *, pictures: bool) -> Nodule:
    """Gather what the page shows of one case; draws its pictures if asked to."""
    facts = case.facts
    measured = measure(case, pick)
    readers = case.array("labels/readers/0").astype(bool)
    ratings = facts.ratings
    names = tuple(dict.fromkeys(name for row in ratings for name in row if name != "annotation_id"))
    subject = subject_of(case, pick) if pictures else None
    return Nodule(
        id=case.nodule_id,
        anchor=f"nodule-{case.nodule_id}",
        patient=facts.patient,
        kind=None if measured.kind == UNRATED else measured.kind,
        extent_mm=_extent_mm(readers, case.grid.spacing_mm),
        unknown_voxels=facts.trimap.unknown_voxels,
        pick=pick,
        pick_error=measured.errors.get(pick) if pick else None,
        regret=measured.regret,
        seconds=sum(outcome.seconds.values()) if outcome.seconds else None,
        synthetic=facts.synthetic,
        methods=_methods(case, measured),
        figure_names=_figure_names(facts),
        statuses=_statuses(facts, case.methods),
        baselines=tuple(
            (label, measured.errors[name])
            for name, label in BASELINES.items()
            if name in measured.errors
        ),
        tied=tuple(" = ".join(group) for group in facts.scores.tied),
        rating_names=names,
        ratings=tuple(tuple(row.get(name) for name in names) for row in ratings),
        facts=_particulars(case),
        anatomy_uri=_data_uri(draw_anatomy(subject)) if subject else None,
        anatomy_alt=_anatomy_alt(case, len(readers)),
        mattes_uri=_data_uri(draw_mattes(subject)) if subject else None,
        mattes_alt=_mattes_alt(case, pick),
    )


def measure(case: Case, pick: str | None) -> Measured:
    """Take what the store knows of a case's errors."""
    facts = case.facts
    return Measured(kind_of(facts.ratings) or UNRATED, dict(facts.errors or {}), pick)


def kind_of(ratings: Sequence[Rating]) -> str | None:
    """Name the kind of lesion by the readers' mean texture rating; None where nobody rated it."""
    given = (row.get("texture") for row in ratings)
    textures = [float(texture) for texture in given if isinstance(texture, int | float)]
    if not textures:
        return None
    # Only the texture decides the kind.
    return Ratings(texture=fmean(textures), margin=0, spiculation=0, calcification=0).kind


def glossary(nodules: Iterable[Nodule]) -> tuple[tuple[str, str], ...]:
    """Explain the words of the tables and the candidate figures that occur."""
    figures = dict.fromkeys(
        name for nodule in nodules for name in nodule.figure_names if name in METRIC_LABELS
    )
    return (*TABLE_WORDS.items(), *((name, METRIC_LABELS[name]) for name in figures))


def _extent_mm(readers: NDArray[np.bool_], spacing_mm: Vector) -> tuple[float, float, float]:
    """Measure the readers' union along x, y and z."""
    marked = np.argwhere(np.any(readers, axis=0))
    x, y, z = ((np.ptp(marked, axis=0) + 1) * spacing_mm)[::-1].tolist()
    return x, y, z


def _methods(case: Case, measured: Measured) -> tuple[Method, ...]:
    facts = case.facts
    reports, ranking = facts.reports, facts.scores.ranking
    smallest = min(
        (measured.errors[name] for name in case.methods if name in measured.errors), default=None
    )
    return tuple(
        Method(
            name=name,
            picked=name == measured.pick,
            stored=reports[name].converged,
            rank=ranking.index(name) + 1 if name in ranking else None,
            iterations=reports[name].iterations,
            residual=reports[name].residual,
            clipped=reports[name].clipped,
            figures=tuple(
                facts.scores.methods.get(name, {}).get(figure) for figure in _figure_names(facts)
            ),
            error=measured.errors.get(name),
            best=name in measured.errors and measured.errors[name] == smallest,
        )
        for name in case.methods
    )


def _figure_names(facts: CaseFacts) -> tuple[str, ...]:
    """Name the candidate figures: numbers that the table does not show anyway."""
    names = (name for metrics in facts.scores.methods.values() for name in metrics)
    return tuple(dict.fromkeys(name for name in names if name not in TABLE_WORDS))


def _statuses(facts: CaseFacts, methods: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Group methods by the sentence that says how their solve ended."""
    endings: dict[str, list[str]] = {}
    for name in methods:
        endings.setdefault(facts.reports[name].status, []).append(name)
    return tuple((", ".join(names), sentence) for sentence, names in endings.items())


def _particulars(case: Case) -> tuple[tuple[str, str], ...]:
    facts, grid = case.facts, case.grid
    source = facts.source if isinstance(facts.source, LidcFacts) else None
    thickness = source.slice_thickness_mm if source else None
    found: dict[str, object] = {
        "patch (left-right x front-back x height)": " x ".join(str(n) for n in grid.shape[::-1])
        + " voxels",
        "voxel spacing": " x ".join(f"{mm:g}" for mm in grid.spacing_mm[::-1]) + " mm",
        "first voxel in patient space (LPS)": ", ".join(f"{mm:.1f}" for mm in grid.origin_lps_mm)
        + " mm",
        "unknown voxels": facts.trimap.unknown_voxels,
        "largest connected foreground": facts.trimap.core_voxels,
        "band grown inward by": f"{facts.trimap.inward_mm:g} mm",
        "series": source.series_instance_uid if source else None,
        "slice thickness": f"{thickness} mm" if thickness else None,
        "algorithm version": facts.algorithm,
        "digest": case.digest,
    }
    return tuple((name, str(value)) for name, value in found.items() if value is not None)


def subject_of(case: Case, pick: str | None) -> Subject:
    """Read all that can be drawn of a case."""
    facts = case.facts
    return Subject(
        grid=case.grid,
        image_hu=case.array("image"),
        valid=case.array("validity").astype(bool),
        readers=case.array("labels/readers/0").astype(bool),
        trimap=case.array("labels/trimap/0"),
        alphas={name: case.alpha(name) for name in case.methods},
        why_missing={name: report.status for name, report in facts.reports.items()},
        known_alpha=case.array("known_alpha") if "known_alpha" in case.group else None,
        picked=pick,
        synthetic=facts.synthetic,
    )


def _data_uri(figure: Figure) -> str:
    return f"data:image/png;base64,{b64encode(png(figure)).decode()}"


def _anatomy_alt(case: Case, readers: int) -> str:
    simulated = "Simulated CT" if case.facts.synthetic else "CT"
    return (
        f"{simulated} of nodule {case.nodule_id} in lung window: axial, coronal and sagittal planes through its centre"
        f" with the outlines of {readers} readers, the axial plane without outlines, and the axial trimap."
    )


def _mattes_alt(case: Case, pick: str | None) -> str:
    missing = [name for name, report in case.facts.reports.items() if not report.converged]
    known = " beside the known alpha" if "known_alpha" in case.group else ""
    return (
        f"Mattes of nodule {case.nodule_id} in the axial plane, black 0 to yellow 1: {', '.join(case.methods)}{known}"
        f" and the readers' mean mask. Picked: {pick or 'none'}. No matte: {', '.join(missing) or 'none'}."
    )
