"""Scores: how far mattes are from those of a release. They lie beside releases, which never change.

    metrics/<version>/<split>/<what>.csv    one row for each nodule, matte and region
    metrics/<version>/<split>/<what>.json   their means and what was measured; written last

<what> is `methods` for the stored mattes and the trivial ones, or the digest of a checkpoint.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, pstdev
from typing import Any

from storage.errors import Damaged, NotFound
from storage.layout import METRICS
from storage.store import Store

FIGURES = ("sad", "mse", "grad", "conn")
METHODS = "methods"


@dataclass(frozen=True, slots=True)
class Score:
    """One matte of one nodule against one truth over one region."""

    nodule: str
    matte: str
    """A method, a trivial matte, or the network's variant."""
    truth: str
    """``released``, or ``known`` where the CT is simulated."""
    region: str
    """``whole`` patch, ``near`` (union and 5 mm) or ``unknown``."""
    voxels: int
    sad: float
    mse: float
    grad: float
    conn: float


@dataclass(frozen=True, slots=True)
class Line:
    """Mean and standard deviation over the nodules that count."""

    matte: str
    truth: str
    region: str
    nodules: int
    means: dict[str, float]
    deviations: dict[str, float]


def summarise(scores: Sequence[Score]) -> list[Line]:
    """Average the scores of each matte, truth and region over the nodules."""
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.truth, score.region, score.matte), []).append(score)
    lines = []
    for (truth, region, matte), members in groups.items():
        values = {name: [float(getattr(score, name)) for score in members] for name in FIGURES}
        means = {name: fmean(found) for name, found in values.items()}
        lines.append(
            Line(matte, truth, region, len(members), means, {name: pstdev(found) for name, found in values.items()})
        )
    return lines


def write_scores(
    store: Store, version: str, split: str, what: str, scores: Sequence[Score], facts: dict[str, Any]
) -> list[Line]:
    """Store scores; measured again they are the same and take the place of themselves."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(score) for score in scores)
    lines = summarise(scores)
    prefix = _prefix(version, split, what)
    store.put(f"{prefix}.csv", text.getvalue().encode())
    summary = {**facts, "release": version, "split": split, "lines": [asdict(line) for line in lines]}
    store.put(f"{prefix}.json", json.dumps(summary, indent=1).encode())
    return lines


def read_summary(store: Store, version: str, split: str, what: str) -> dict[str, Any] | None:
    """Give the means and facts of what was measured; None where it was not. Raises Damaged."""
    try:
        summary = store.get_json(f"{_prefix(version, split, what)}.json")
        return {**summary, "lines": [Line(**line) for line in summary["lines"]]}
    except NotFound:
        return None
    except (KeyError, TypeError) as error:
        raise Damaged(f"{_prefix(version, split, what)}.json holds no scores. Remove it and measure again.") from error


def read_lines(store: Store, version: str, split: str, *whats: str) -> list[Line]:
    """Give the lines of all that was measured under these names, in their order."""
    found = [read_summary(store, version, split, what) for what in whats]
    return [line for summary in found if summary for line in summary["lines"]]


def scored(store: Store, version: str, split: str) -> list[str]:
    """Name what was measured of a release: `methods` and digests of checkpoints."""
    names = store.children(f"{METRICS}/{version}/{split}")[1]
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def scores_place(store: Store, version: str) -> str:
    """Tell where the scores of a release lie."""
    return f"{store.url}/{METRICS}/{version}"


def _prefix(version: str, split: str, what: str) -> str:
    return f"{METRICS}/{version}/{split}/{what}"
