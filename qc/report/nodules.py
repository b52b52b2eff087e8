"""Build a nodule's section of the report from its case."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Vector
from matting.phantoms import Ratings
from matting.targets import Target
from qc.figures.drawing import DrawnNodule, draw_anatomy, draw_mattes, png
from qc.figures.templating import data_uri
from qc.report.errors import BASELINES, NoduleErrors
from qc.report.page import MethodRow, NoduleSection
from qc.report.thumbnail import thumbnail
from storage.cases.case import Case
from storage.records import CaseFacts, LidcFacts, Rating

COLUMN_LABELS = {
    "form": "values of the methods' parameters: paper form (the paper's formulas, the literature's"
    " values), improved form (this project's) or custom parameters",
    "rank": "rank of the forms that answer the question of this report, by their family's candidate"
    " metrics, which need no ground truth; 1 is best",
    "iterations": "iterations of the solver",
    "residual": "relative residual of the linear system when the solver stopped",
    "clipped": "largest distance of alpha from the range 0 to 1 before clipping; lower is better",
    "error": "mean absolute difference from the known alpha in the unknown region; synthetic CT"
    " only; lower is better. The known alpha is opacity: a + form, which estimates opacity times"
    " density, differs from it in the core too",
    "regret": "error of the picked matte minus the smallest error of the four that answer the same"
    " question; 0 is best",
}
"""What the columns of the tables mean."""

_AGREEMENT = "cross-entropy between the matte and the mean of the readers' masks; lower is better"
_COMPOSITING = (
    "error of the CT composed by this matte from a smooth lesion and a smooth background; lower is"
    " better"
)
_CONTINUITY = "roughness of the matte from slice to slice; lower is better"
_OUTSIDE = "share of the matte outside the readers' union; lower is better"
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
"""What the candidate metrics mean; others are shown without an explanation."""

UNRATED = "unrated"


def nodule_section(
    case: Case,
    seconds: Mapping[str, float],
    pick: str | None,
    target: Target,
    *,
    pictures: bool,
    page: str | None = None,
) -> NoduleSection:
    """Return what the page shows of one case.

    Args:
        case: The case.
        seconds: Wall time of each stage; empty where it is not known.
        pick: The method whose matte was chosen, if any.
        target: The question by which the methods are ranked.
        pictures: Whether to draw its pictures.
        page: Address of the nodule's own page; None where its section is on the report's.
    """
    facts = case.facts
    measured = nodule_errors(case, pick)
    readers = case.array("labels/readers/0").astype(bool)
    ratings = facts.ratings
    names = tuple(dict.fromkeys(name for row in ratings for name in row if name != "annotation_id"))
    subject = subject_of(case, pick) if pictures else None
    return NoduleSection(
        id=case.nodule_id,
        anchor=f"nodule-{case.nodule_id}",
        href=page or f"#nodule-{case.nodule_id}",
        patient=facts.patient,
        kind=None if measured.kind == UNRATED else measured.kind,
        extent_mm=_extent_mm(readers, case.grid.spacing_mm),
        unknown_voxels=facts.trimap.unknown_voxels,
        pick=pick,
        form=facts.form_name,
        pick_error=measured.errors.get(pick) if pick else None,
        regret=measured.regret,
        seconds=sum(seconds.values()) if seconds else None,
        synthetic=facts.synthetic,
        methods=_methods(case, measured, target),
        metric_names=_metric_names(facts),
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
        thumbnail_uri=data_uri(thumbnail(subject)) if subject else None,
        anatomy_uri=data_uri(png(draw_anatomy(subject))) if subject else None,
        anatomy_alt=_anatomy_alt(case, len(readers)),
        mattes_uri=data_uri(png(draw_mattes(subject))) if subject else None,
        mattes_alt=_mattes_alt(case, pick),
    )


def nodule_errors(case: Case, pick: str | None) -> NoduleErrors:
    """Return a case's errors against the known alpha."""
    facts = case.facts
    return NoduleErrors(kind_of(facts.ratings) or UNRATED, dict(facts.errors or {}), pick)


def kind_of(ratings: Sequence[Rating]) -> str | None:
    """Return the kind of lesion by the readers' mean texture rating; None if it was not rated."""
    given = (row.get("texture") for row in ratings)
    textures = [float(texture) for texture in given if isinstance(texture, int | float)]
    if not textures:
        return None
    # Only the texture decides the kind.
    return Ratings(texture=fmean(textures), margin=0, spiculation=0, calcification=0).kind


def glossary(nodules: Iterable[NoduleSection]) -> tuple[tuple[str, str], ...]:
    """Return what the columns and the candidate metrics that occur mean."""
    metrics = dict.fromkeys(
        name for nodule in nodules for name in nodule.metric_names if name in METRIC_LABELS
    )
    return (*COLUMN_LABELS.items(), *((name, METRIC_LABELS[name]) for name in metrics))


def _extent_mm(readers: NDArray[np.bool_], spacing_mm: Vector) -> tuple[float, float, float]:
    """Return the extent of the readers' union along (x, y, z)."""
    marked = np.argwhere(np.any(readers, axis=0))
    x, y, z = ((np.ptp(marked, axis=0) + 1) * spacing_mm)[::-1].tolist()
    return x, y, z


def _methods(case: Case, measured: NoduleErrors, target: Target) -> tuple[MethodRow, ...]:
    facts = case.facts
    reports = facts.reports
    ranking = facts.scores.ranking_for(target)
    smallest = min(
        (measured.errors[name] for name in case.methods if name in measured.errors), default=None
    )
    return tuple(
        MethodRow(
            name=name,
            picked=name == measured.pick,
            stored=reports[name].converged,
            rank=ranking.index(name) + 1 if name in ranking else None,
            iterations=reports[name].iterations,
            residual=reports[name].residual,
            clipped=reports[name].clipped,
            metrics=tuple(
                facts.scores.methods.get(name, {}).get(metric) for metric in _metric_names(facts)
            ),
            error=measured.errors.get(name),
            best=name in measured.errors and measured.errors[name] == smallest,
        )
        for name in case.methods
    )


def _metric_names(facts: CaseFacts) -> tuple[str, ...]:
    """Return the names of the candidate metrics that have no column of their own."""
    names = (name for metrics in facts.scores.methods.values() for name in metrics)
    return tuple(dict.fromkeys(name for name in names if name not in COLUMN_LABELS))


def _statuses(facts: CaseFacts, methods: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Group methods by the status of their solve."""
    endings: dict[str, list[str]] = {}
    for name in methods:
        endings.setdefault(facts.reports[name].status, []).append(name)
    return tuple((", ".join(names), sentence) for sentence, names in endings.items())


def _particulars(case: Case) -> tuple[tuple[str, str], ...]:
    facts = case.facts
    grid = case.grid
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
        "unknown band grown inward by": f"{facts.trimap.inward_mm:g} mm",
        "series": source.series_instance_uid if source else None,
        "slice thickness": f"{thickness} mm" if thickness else None,
        "form of the mattes": facts.form_name,
        "algorithm version": facts.algorithm,
        "digest": case.digest,
    }
    return tuple((name, str(value)) for name, value in found.items() if value is not None)


def subject_of(case: Case, pick: str | None) -> DrawnNodule:
    """Return the volumes of a case that can be drawn."""
    facts = case.facts
    return DrawnNodule(
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


def _anatomy_alt(case: Case, readers: int) -> str:
    ct = "Synthetic CT" if case.facts.synthetic else "CT"
    return (
        f"{ct} of nodule {case.nodule_id} in lung window: axial, coronal and sagittal planes"
        f" through its centre with the outlines of {readers} readers, the axial plane without"
        " outlines, and the axial trimap."
    )


def _mattes_alt(case: Case, pick: str | None) -> str:
    missing = [name for name, report in case.facts.reports.items() if not report.converged]
    known = " beside the known alpha" if "known_alpha" in case.group else ""
    return (
        f"Mattes of nodule {case.nodule_id} in the axial plane, black is 0, yellow is 1:"
        f" {', '.join(case.methods)}{known} and the readers' mean mask. Picked: {pick or 'none'}."
        f" No matte: {', '.join(missing) or 'none'}."
    )
