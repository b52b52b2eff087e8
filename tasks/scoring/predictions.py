"""Scores of a matte that somebody predicted for a nodule, beside the mattes of the release."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.measures.probability import probability_errors
from storage.errors import CorruptionError, NotFoundError
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.prediction_scores import ReaderScore
from storage.results.scores import METHOD_SCORES, Score, read_nodule_scores
from storage.sources.predictions import read_prediction
from tasks.scoring.calibration import bin_columns
from tasks.scoring.mattes import Matte, measured_regions, score_mattes, stored_mattes

PREDICTION = "prediction"
RELEASED = "released matte"
READER_REGIONS = ("near", "unknown")
"""Elsewhere no reader marked anything, and a mean would be one over air."""


@dataclass(frozen=True, slots=True)
class ScoredNodule:
    """What became of the prediction for one nodule."""

    nodule_id: str
    scores: tuple[Score, ...] = ()
    """Of the prediction, then of the mattes that it is compared with."""
    readers: tuple[ReaderScore, ...] = ()
    """The same against the readers' masks."""
    without_geometry: bool = False
    """Whether only the shape of the prediction could be compared."""
    refusal: str = ""
    """Why nothing was scored."""


def score_prediction(
    release: Release,
    nodule_id: str,
    *,
    files: Mapping[str, tuple[Path, ...]],
    priors: Mapping[str, float],
) -> ScoredNodule:
    """Score the prediction for a nodule and the mattes of the release; writes nothing.

    Args:
        release: The release.
        nodule_id: The nodule.
        files: Files of predictions by nodule.
        priors: Values of `tasks.scoring.mattes.trimap_priors`.

    Returns:
        The scores, or why there are none: invalid input costs its own nodule only.
    """
    reader = ReleaseReader(release)
    try:
        read = read_prediction(_only(files[nodule_id]), reader.grid(nodule_id))
        scored = score_matte(reader, nodule_id, read.matte, priors[nodule_id])
        return replace(scored, without_geometry=not read.has_geometry)
    except (InputError, CorruptionError) as error:
        return ScoredNodule(nodule_id, refusal=str(error))


def score_matte(
    reader: ReleaseReader, nodule_id: str, matte: NDArray[np.floating], prior: float
) -> ScoredNodule:
    """Score a matte of a nodule and the mattes of the release; writes nothing.

    Args:
        reader: The release.
        nodule_id: The nodule.
        matte: (z, y, x) in 0..1, on the release's voxels.
        prior: The nodule's value of `tasks.scoring.mattes.trimap_priors`.
    """
    mattes = stored_mattes(reader, nodule_id, prior)
    own = score_mattes(reader, nodule_id, {PREDICTION: matte})
    others = _scores_of_release(reader, nodule_id, mattes)
    compared = {PREDICTION: matte, RELEASED: reader.read(nodule_id, "alpha"), **mattes}
    against_readers = _score_readers(reader, nodule_id, compared)
    return ScoredNodule(nodule_id, (*own, *others), tuple(against_readers))


def _only(files: tuple[Path, ...]) -> Path:
    if len(files) > 1:
        raise InputError(
            "a nodule has several predictions",
            got=", ".join(path.name for path in files),
            expected="one file for each nodule",
            remedy="Remove all but one.",
        )
    return files[0]


def _scores_of_release(
    reader: ReleaseReader, nodule_id: str, mattes: Mapping[str, Matte]
) -> list[Score]:
    """Return the stored scores of the methods and the trivial mattes, or measure them."""
    release = reader.release
    try:
        return read_nodule_scores(release.store, release.version, METHOD_SCORES, [nodule_id])
    except NotFoundError:
        supplied = reader.member(nodule_id).method
        return list(score_mattes(reader, nodule_id, mattes, supplied))


def _score_readers(
    reader: ReleaseReader, nodule_id: str, mattes: Mapping[str, Matte]
) -> Iterator[ReaderScore]:
    """Yield one score for each matte and region against the masks of all readers."""
    masks = reader.read(nodule_id, "readers") > 0
    marks = masks.sum(axis=0)
    regions = measured_regions(reader, nodule_id)
    for region in READER_REGIONS:
        inside: NDArray[np.bool_] = regions[region]
        for name, matte in mattes.items() if inside.any() else ():
            errors = probability_errors(matte[inside], marks[inside], len(masks))
            yield ReaderScore(
                nodule=nodule_id,
                matte=name,
                region=region,
                readers=len(masks),
                voxels=int(inside.sum()),
                brier=errors.brier,
                log_loss=errors.log_loss,
                **bin_columns(errors),
            )
