"""From a release in the store to the pictures and videos of its page: which nodules, and what is said of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from qc.evaluation.choice import Choice, choose
from qc.evaluation.figures import Output, draw_methods, draw_outputs, draw_readers
from qc.evaluation.page import Picture, StudyPart, Video
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
from qc.figures.drawing import Subject, png
from qc.report.nodules import subject_of
from qc.review.study_report import draw_shares, gather, shares_csv
from storage.cases.case import read_case
from storage.layout import RELEASES
from storage.releases.release import Release
from storage.reviews.studies import list_studies
from storage.store import Store

VIDEOS_AT_MOST = 2
"""Nodules with videos: each weighs about a megabyte on the page."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn of a release."""

    readers: tuple[Picture, ...]
    """Figure 1."""
    methods: Picture
    """Figure 7."""
    videos: tuple[Video, ...]
    """Slices and turns."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a network says of a nodule; every array is (z, y, x) in 0..1, on the case's grid."""

    nodule_id: str
    alpha: NDArray[Any]
    union: NDArray[Any] | None
    """None from a network without auxiliary masks, as is `overlap`."""
    overlap: NDArray[Any] | None


def choose_nodules(release: Release, *, split: str | None = None) -> tuple[Choice, ...]:
    """Choose the nodules that are shown, of one split or of all; the same release gives the same ones."""
    members = release.members.items()
    among = [name for name, member in members if split in (None, member.split)]
    key = f"{RELEASES}/{release.version}/fingerprint.csv"
    return choose(release.store.get(key), among)


def draw_release(release: Release) -> Drawn:
    """Draw Figures 1 and 7 and make the videos of a release's chosen nodules."""
    choices = choose_nodules(release)
    ids = [choice.nodule_id for choice in choices]
    subjects = _subjects(release, ids)
    methods = Picture(
        file="pictures/figure-7.png",
        data=png(draw_methods(subjects, ids)),
        alt=f"{_ct(subjects)} in one row a nodule, beside it the readers' mean mask and the eight mattes, axial: "
        + ", ".join(ids),
        caption="Axial plane through the centre of what the readers marked; black 0 to pale yellow 1. The title of the"
        " matte that was released says so.",
    )
    readers = tuple(
        _readers(subject, choice) for subject, choice in zip(subjects, choices, strict=True)
    )
    videos = [_videos(subject, choice) for subject, choice in zip(subjects, choices, strict=True)][
        :VIDEOS_AT_MOST
    ]
    return Drawn(readers, methods, tuple(video for pair in videos for video in pair))


def draw_predicted(
    release: Release, network: str, predicted: Sequence[Predicted]
) -> Picture | None:
    """Draw Figure 8: what a network says of some nodules of a release beside what is known of them.

    Args:
        release: Which release.
        network: The network's label and digest, for the caption.
        predicted: What it says; None is given where there is none.
    """
    if not predicted:
        return None
    subjects = _subjects(release, [one.nodule_id for one in predicted])
    outputs = [
        Output(subject, one.nodule_id, one.alpha, one.union, one.overlap)
        for subject, one in zip(subjects, predicted, strict=True)
    ]
    ids = ", ".join(output.name for output in outputs)
    return Picture(
        file="pictures/figure-8.png",
        data=png(draw_outputs(outputs)),
        alt=f"{_ct([output.subject for output in outputs])} in one row a nodule, beside it the true and the predicted"
        f" union, overlap and matte, axial: {ids}",
        caption=f"Network {network}, on nodules that it did not learn from; axial, black 0 to pale yellow 1.",
    )


def find_study(store: Store, version: str) -> StudyPart | None:
    """Give the study of a release with the most answers; None where nobody has answered."""
    results = [gather(store, name) for name in sorted(list_studies(store))]
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
        alt=f"Bars: how often each of {len(result.raters)} raters chose each reader's mask or the matte.",
        caption="Share of nodules for which a rater chose each option, with Wilson's 95 % intervals.",
    )
    return StudyPart(
        name=result.study.name,
        nodules=len(result.study.items),
        raters=len(result.raters),
        shares_csv=shares_csv(result),
        figure=figure,
        synthetic=result.synthetic_count,
    )


def _subjects(release: Release, nodule_ids: Sequence[str]) -> list[Subject]:
    members = [release.members[name] for name in nodule_ids]
    return [
        subject_of(read_case(release.store, member.nodule_id, member.digest), member.method)
        for member in members
    ]


def _readers(subject: Subject, choice: Choice) -> Picture:
    return Picture(
        file=f"pictures/figure-1-{choice.nodule_id}.png",
        data=png(draw_readers(subject)),
        alt=f"{_ct([subject])} of {choice.nodule_id} in three planes, then each reader's mask on it, then the released"
        f" matte on it in red.",
        caption=f"{choice.nodule_id} ({choice.why}). Masks in each reader's colour; the redder the matte, the more"
        " likely lesion.",
    )


def _videos(subject: Subject, choice: Choice) -> tuple[Video, Video]:
    name = choice.nodule_id
    slices = _video(
        f"videos/slices-{name}.gif",
        slice_frames(subject),
        SLICE_MS,
        alt=f"Axial slices of {name} from the feet up: readers' outlines on {_ct([subject])}, and the matte in red.",
        caption=f"{name}, slice by slice: readers' outlines and released matte",
    )
    turn = _video(
        f"videos/turn-{name}.gif",
        turn_frames(subject),
        TURN_MS,
        alt=f"The released matte of {name} turns about the body's axis: largest alpha along each ray, and its surface.",
        caption=f"{name}, turning: the released matte in three dimensions",
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


def _ct(subjects: Sequence[Subject]) -> str:
    return "Simulated CT" if any(subject.synthetic for subject in subjects) else "CT"
