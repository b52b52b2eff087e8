"""Statistics of a release's nodules, and their quantiles."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.cases.case import Case
from storage.records import CaseFacts, LidcFacts

SOFT = (0.05, 0.95)
"""A voxel of a matte counts as soft between these values."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class NoduleStatistics:
    """Statistics of one nodule."""

    nodule: str
    split: str
    depth_mm: float
    """Extent of its volume along z; `rows_mm` and `columns_mm` are those along y and x."""
    rows_mm: float
    columns_mm: float
    slice_distance_mm: float
    """Median distance between slices of the scan; NaN for a table of volumes."""
    hu_p5: float
    """Quantiles of radiodensity, in HU, over the voxels that any reader marked."""
    hu_median: float
    hu_p95: float
    volume_mm3: float
    """Sum of the released matte."""
    overlap_mm3: float
    """Volume that all readers marked."""
    union_mm3: float
    """Volume that any reader marked."""
    dice: float
    """Agreement of the readers: mean Dice coefficient over pairs, 0..1."""
    soft_share: float
    """Fraction of the matte's non-zero voxels that are soft."""


def nodule_statistics(case: Case, method: str, split: str) -> NoduleStatistics:
    """Compute the statistics of one nodule.

    Args:
        case: Of the nodule.
        method: Whose matte is released.
        split: Of the nodule.
    """
    grid = case.grid
    readers = case.array("labels/readers/0") > 0
    union = readers.any(axis=0)
    alpha = case.alpha(method)
    voxel_mm3 = float(np.prod(grid.spacing_mm))
    depth, rows, columns = (n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True))
    hu_p5, hu_median, hu_p95 = np.quantile(case.array("image")[union], (0.05, 0.5, 0.95))
    soft = int(np.count_nonzero((alpha > SOFT[0]) & (alpha < SOFT[1])))
    values = {
        "depth_mm": depth,
        "rows_mm": rows,
        "columns_mm": columns,
        "slice_distance_mm": _slice_distance_mm(case.facts),
        "hu_p5": hu_p5,
        "hu_median": hu_median,
        "hu_p95": hu_p95,
        "volume_mm3": float(alpha.sum(dtype=np.float64)) * voxel_mm3,
        "overlap_mm3": int(readers.all(axis=0).sum()) * voxel_mm3,
        "union_mm3": int(union.sum()) * voxel_mm3,
        "dice": _dice(readers),
        "soft_share": soft / max(1, int(np.count_nonzero(alpha))),
    }
    rounded = {name: round(float(value), 4) for name, value in values.items()}
    return NoduleStatistics(case.nodule_id, split, **rounded)


def statistics_files(rows: Sequence[NoduleStatistics]) -> dict[str, bytes]:
    """Return ``fingerprint.csv``, one row per nodule, and ``fingerprint.json``, quantiles."""
    table = pd.DataFrame([asdict(row) for row in rows])
    return {
        "fingerprint.csv": table.to_csv(index=False, lineterminator="\n").encode(),
        "fingerprint.json": _quantiles(table),
    }


def median_nodule(table: bytes) -> str:
    """Return the id of the nodule whose matte has the median volume.

    Args:
        table: ``fingerprint.csv``.
    """
    rows = pd.read_csv(io.BytesIO(table), dtype={"nodule": str})
    ordered = rows.sort_values(["volume_mm3", "nodule"])["nodule"]
    return str(ordered.iloc[len(ordered) // 2])


def _quantiles(table: pd.DataFrame) -> bytes:
    columns = table.drop(columns=["nodule", "split"]).dropna(axis="columns", how="all")
    quantiles = {
        name: {f"q{round(100 * q)}": round(float(columns[name].quantile(q)), 4) for q in QUANTILES}
        for name in columns
    }
    return json.dumps({"nodules": len(table), "quantiles": quantiles}, indent=2).encode() + b"\n"


def _slice_distance_mm(facts: CaseFacts) -> float:
    positions = facts.source.slice_positions_mm if isinstance(facts.source, LidcFacts) else ()
    return float(np.median(np.abs(np.diff(positions)))) if len(positions) > 1 else float("nan")


def _dice(readers: NDArray[np.bool_]) -> float:
    """Return the mean Dice coefficient over all pairs of readers."""
    scores = []
    for first, second in combinations(readers, 2):
        both = int((first & second).sum())
        scores.append(2 * both / max(1, int(first.sum()) + int(second.sum())))
    return float(np.mean(scores))
