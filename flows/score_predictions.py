"""Score a folder of mattes that somebody predicted against a release.

Nothing is written to the store, so a release that belongs to others can be scored against.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.engine.cluster import LOCAL, Cluster
from flows.score import read_priors, score_nodules
from matting.errors import InputError
from qc.evaluation.scores import ScoresPage, write_scores_page
from storage.errors import unknown_nodules
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release, open_release
from storage.results.prediction_scores import NotScored
from storage.results.scores import ALL
from storage.sources.predictions import SUFFIXES, PredictionFolder, list_predictions
from tasks.scoring.prediction_tables import calibration_bins, tabulate_predictions
from tasks.scoring.predictions import ScoredNodule, score_prediction


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """What is scored against what."""

    store_url: str
    version: str
    """A published version."""
    predictions: Path
    """Folder with one NIfTI or npz file for each nodule."""
    split: str
    """train, validation, test, or `ALL`."""
    out: Path
    """Folder for the page and its tables."""
    cluster: Cluster = LOCAL
    """Where nodules are scored, if there are many."""


def score_predictions(job: ScoringJob) -> ScoresPage:
    """Score the predictions, and write the page and its tables.

    Returns:
        The page.

    Raises:
        InputError: No prediction could be scored.
    """
    release = open_release(job.store_url, job.version)
    page = score(release, job.predictions, split=job.split, cluster=job.cluster)
    write_scores_page(page, job.out)
    return page


def score(
    release: Release,
    predictions: str | os.PathLike[str],
    *,
    split: str = "test",
    cluster: Cluster = LOCAL,
) -> ScoresPage:
    """Score a folder of mattes that somebody predicted; writes nothing.

    Args:
        release: From `storage.releases.release.open_release`.
        predictions: Folder with one NIfTI or npz file for each nodule, named by it.
        split: ``train``, ``validation``, ``test`` or ``all``.
        cluster: Where nodules are scored, if there are many; this machine by default.

    Returns:
        What `halosign score` writes as a page and tables: the means with their intervals in
        `scores`, those of each nodule in `nodules`, and what was not scored in `not_scored`.

    Raises:
        InputError: There is no such split or folder, or no prediction could be scored.
    """
    reader = ReleaseReader(release)
    nodules = reader.nodules(None if split == ALL else split)
    folder = list_predictions(Path(predictions))
    found = [name for name in nodules if name in folder.files]
    not_scored = list(_not_read(folder, reader, split))
    expected = f"predictions for some of the {len(nodules)} nodules of {release.version}, {split}"
    if not found:
        raise _nothing(not_scored, expected)
    score_one = partial(score_prediction, files=folder.files, priors=read_priors(reader))
    results = score_nodules(score_one, release, found, cluster, "scoring predictions")
    scored = [one for one in results if not one.refusal]
    not_scored += [_refused(one, folder) for one in results if one.refusal]
    if not scored:
        raise _nothing(not_scored, expected)
    not_scored += [
        NotScored(name, "", "missing", "no prediction for it")
        for name in nodules
        if name not in folder.files
    ]
    names = tuple(one.nodule_id for one in scored)
    title = Path(predictions).resolve().name
    return ScoresPage(
        title=f"Scores of {title} against release {release.version}",
        release=release.version,
        manifest_sha256=release.manifest_sha256,
        predictions=title,
        split=split,
        expected=len(nodules),
        synthetic=sum(reader.member(name).synthetic for name in names),
        without_geometry=sum(one.without_geometry for one in scored),
        scored=names,
        scores=tuple(tabulate_predictions(release, scored)),
        nodules=tuple(score for one in scored for score in one.scores),
        readers=tuple(score for one in scored for score in one.readers),
        calibration=tuple(calibration_bins(scored)),
        not_scored=tuple(not_scored),
    )


def _not_read(folder: PredictionFolder, reader: ReleaseReader, split: str) -> list[NotScored]:
    """Return the files that belong to no nodule that is scored, each with the reason."""
    found = []
    for name, paths in folder.files.items():
        files = ", ".join(path.name for path in paths)
        own = reader.splits.get(name)
        if own is None:
            error = unknown_nodules([name], sorted(reader.splits), f"release {reader.version}")
            found.append(NotScored(name, files, "unknown nodule", str(error)))
        elif split not in (ALL, own):
            found.append(NotScored(name, files, "other split", f"it is in the split {own}"))
    expected = ", ".join(f"NODULE{suffix}" for suffix in SUFFIXES)
    return [
        *found,
        *(NotScored("", one.name, "not read", f"expected {expected}") for one in folder.others),
    ]


def _refused(one: ScoredNodule, folder: PredictionFolder) -> NotScored:
    files = ", ".join(path.name for path in folder.files[one.nodule_id])
    return NotScored(one.nodule_id, files, "refused", one.refusal)


def _nothing(not_scored: list[NotScored], expected: str) -> InputError:
    first = not_scored[0]
    return InputError(
        "no prediction could be scored",
        got=f"{len(not_scored)} files, the first {first.file}: {first.reason}",
        expected=expected,
        remedy="Correct them, or choose another --split.",
    )
