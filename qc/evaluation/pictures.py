"""Draw the pictures and videos of a release's experiments: which nodules, with what captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from qc.evaluation.choice import ChosenNodule, choose_from
from qc.evaluation.figures import NoduleOutputs, draw_methods, draw_outputs, draw_readers
from qc.evaluation.page import Picture, StudySection, Video
from qc.evaluation.videos import (
    SLICE_MS,
    TURN_MS,
    Frames,
    gif,
    mp4,
    slice_frames,
    still,
    turn_frames,
)
from qc.figures.drawing import DrawnNodule, png
from qc.report.nodules import subject_of
from qc.studies.report import draw_shares, read_study_result, shares_csv
from storage.cases.case import read_case
from storage.layout import RELEASES
from storage.releases.release import Release
from storage.reviews.studies import list_studies
from storage.store import Store

MAX_VIDEO_NODULES = 2
"""Videos add about a megabyte per nodule to the page."""


@dataclass(frozen=True, slots=True)
class ReleasePictures:
    """The pictures and videos of a release."""

    readers: tuple[Picture, ...]
    """Figure 1."""
    methods: Picture
    """Figure 7."""
    videos: tuple[Video, ...]
    """Slices and turns."""


@dataclass(frozen=True, slots=True)
class NodulePrediction:
    """A network's outputs for a nodule; every array is (z, y, x) in 0..1, on the case's grid."""

    nodule_id: str
    alpha: NDArray[Any]
    union: NDArray[Any] | None
    """None for a network without auxiliary masks, as is `overlap`."""
    overlap: NDArray[Any] | None


def choose_nodules(release: Release, *, split: str | None = None) -> tuple[ChosenNodule, ...]:
    """Return the nodules to show, of one split or of all; deterministic."""
    members = release.members.items()
    among = [name for name, member in members if split in (None, member.split)]
    key = f"{RELEASES}/{release.version}/fingerprint.csv"
    return choose_from(release.store.get(key), among)


def draw_release(release: Release) -> ReleasePictures:
    """Draw Figures 1 and 7 and the videos of a release's chosen nodules."""
    choices = choose_nodules(release)
    ids = [choice.nodule_id for choice in choices]
    subjects = _subjects(release, ids)
    methods = Picture(
        file="pictures/figure-7.png",
        data=png(draw_methods(subjects, ids)),
        alt=f"{_ct(subjects)}, readers' mean mask and eight mattes, axial, one row per nodule: "
        + ", ".join(ids),
        caption="Axial plane through the centre of the readers' union; black is 0, pale yellow"
        " is 1. The released matte is marked in its title.",
    )
    readers = tuple(
        _readers(subject, choice) for subject, choice in zip(subjects, choices, strict=True)
    )
    filmed = list(zip(subjects, choices, strict=True))[:MAX_VIDEO_NODULES]
    videos = [video for subject, choice in filmed for video in _videos(subject, choice)]
    return ReleasePictures(readers, methods, tuple(videos))


def draw_predicted(
    release: Release, network: str, predicted: Sequence[NodulePrediction]
) -> Picture | None:
    """Draw Figure 8: a network's outputs for nodules of a release beside the truth.

    Args:
        release: The release.
        network: Label and digest of the network, for the caption.
        predicted: Its outputs.

    Returns:
        The picture; None if there are no outputs.
    """
    if not predicted:
        return None
    subjects = _subjects(release, [one.nodule_id for one in predicted])
    outputs = [
        NoduleOutputs(subject, one.nodule_id, one.alpha, one.union, one.overlap)
        for subject, one in zip(subjects, predicted, strict=True)
    ]
    ids = ", ".join(output.name for output in outputs)
    return Picture(
        file="pictures/figure-8.png",
        data=png(draw_outputs(outputs)),
        alt=f"{_ct(subjects)}, true and predicted union, overlap and"
        f" matte, axial, one row per nodule: {ids}",
        caption=f"Network {network}, nodules of the test split; axial; black is 0, pale yellow 1.",
    )


def find_study(store: Store, version: str) -> StudySection | None:
    """Return the study of a release with the most verdicts; None if there is none."""
    results = [read_study_result(store, name) for name in sorted(list_studies(store))]
    answered = [
        one
        for one in results
        if one.study.release == version and any(rater.answers for rater in one.raters)
    ]
    if not answered:
        return None
    result = max(answered, key=lambda one: sum(len(rater.answers) for rater in one.raters))
    figure = Picture(
        file="pictures/figure-3.png",
        data=png(draw_shares(result)),
        alt=f"Bars: how often each of {len(result.raters)} raters chose each option.",
        caption="Share of nodules for which a rater chose each option, with 95 % Wilson intervals.",
    )
    return StudySection(
        name=result.study.name,
        nodules=len(result.study.items),
        raters=len(result.raters),
        shares_csv=shares_csv(result),
        figure=figure,
        synthetic=result.synthetic_count,
    )


def _subjects(release: Release, nodule_ids: Sequence[str]) -> list[DrawnNodule]:
    members = [release.members[name] for name in nodule_ids]
    return [
        subject_of(read_case(release.store, member.nodule_id, member.digest), member.method)
        for member in members
    ]


def _readers(subject: DrawnNodule, choice: ChosenNodule) -> Picture:
    return Picture(
        file=f"pictures/figure-1-{choice.nodule_id}.png",
        data=png(draw_readers(subject)),
        alt=f"{_ct([subject])} of {choice.nodule_id} in three planes, with each reader's mask, and"
        " with the released matte in red.",
        caption=f"{choice.nodule_id} ({choice.why}). Masks in each reader's colour; deeper red"
        " means larger alpha.",
    )


def _videos(subject: DrawnNodule, choice: ChosenNodule) -> tuple[Video, Video]:
    name = choice.nodule_id
    slices = _video(
        f"videos/slices-{name}.gif",
        slice_frames(subject),
        SLICE_MS,
        alt=f"Axial slices of {name} from the feet up: readers' outlines on"
        f" {_ct([subject])}, and the matte in red.",
        caption=f"{name}, slice by slice: readers' outlines and released matte",
    )
    turn = _video(
        f"videos/turn-{name}.gif",
        turn_frames(subject),
        TURN_MS,
        alt=f"The released matte of {name}, rotating about the body axis: maximum intensity"
        " projection and surface.",
        caption=f"{name}, rotating: the released matte in three dimensions",
    )
    return slices, turn


def _video(file: str, frames: Frames, frame_ms: int, *, alt: str, caption: str) -> Video:
    return Video(
        file=file,
        gif=gif(frames, frame_ms),
        still_png=still(frames, len(frames) // 2),
        mp4=mp4(frames, frame_ms),
        alt=alt,
        caption=caption,
    )


def _ct(subjects: Sequence[DrawnNodule]) -> str:
    return "Synthetic CT" if any(subject.synthetic for subject in subjects) else "CT"
