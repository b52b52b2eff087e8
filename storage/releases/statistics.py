"""The fingerprint of a release: what its nodules are like, one row each, and how that is spread."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.cases.case import Case

SOFT = (0.05, 0.95)
"""Between these a matte's voxel counts as soft."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class NoduleStatistics:
    """What one nodule is like."""

    nodule: str
    split: str
    depth_mm: float
    """Extent of its volume along z; `rows_mm` and `columns_mm` along y and x."""
    rows_mm: float
    columns_mm: float
    slice_distance_mm: float
    """Median distance of the scan's slices; NaN where the source is a table of volumes."""
    hu_p5: float
    """Quantiles of radiodensity, in HU, over the voxels that any reader marked."""
    hu_median: float
    hu_p95: float
    volume_mm3: float
    """Sum of the released matte."""
    overlap_mm3: float
    """What all readers marked."""
    union_mm3: float
    """What any reader marked."""
    dice: float
    """Agreement of the readers: mean Dice coefficient over their pairs, 0..1."""
    soft_share: float
    """Share of the matte's non-zero voxels that are soft."""


def nodule_statistics(case: Case, method: str, split: str) -> NoduleStatistics:
    """Measure one nodule: its case, the released matte and its side."""
    grid, readers = case.grid, case.array("labels/readers/0") > 0
    alpha = case.alpha(method)
    union = readers.any(axis=0)
    voxel_mm3 = float(np.prod(grid.spacing_mm))
    low, middle, high = np.quantile(case.array("image")[union], (0.05, 0.5, 0.95))
    depth, rows, columns = (n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True))
    soft = int(np.count_nonzero((alpha > SOFT[0]) & (alpha < SOFT[1])))
    figures = {
        "depth_mm": depth,
        "rows_mm": rows,
        "columns_mm": columns,
        "slice_distance_mm": _slice_distance_mm(case.facts.get("source", {})),
        "hu_p5": low,
        "hu_median": middle,
        "hu_p95": high,
        "volume_mm3": float(alpha.sum(dtype=np.float64)) * voxel_mm3,
        "overlap_mm3": int(readers.all(axis=0).sum()) * voxel_mm3,
        "union_mm3": int(union.sum()) * voxel_mm3,
        "dice": _dice(readers),
        "soft_share": soft / max(1, int(np.count_nonzero(alpha))),
    }
    return NoduleStatistics(
        case.nodule_id, split, **{name: round(float(value), 4) for name, value in figures.items()}
    )


def statistics_files(rows: Sequence[NoduleStatistics]) -> dict[str, bytes]:
    """Give ``fingerprint.csv``, one row a nodule, and ``fingerprint.json``, the quantiles of every figure."""
    table = pd.DataFrame([asdict(row) for row in rows])
    return {
        "fingerprint.csv": table.to_csv(index=False, lineterminator="\n").encode(),
        "fingerprint.json": _spread(table),
    }


def _spread(table: pd.DataFrame) -> bytes:
    figures = table.drop(columns=["nodule", "split"]).dropna(axis="columns", how="all")
    quantiles = {
        name: {f"q{round(100 * q)}": round(float(figures[name].quantile(q)), 4) for q in QUANTILES}
        for name in figures
    }
    return json.dumps({"nodules": len(table), "quantiles": quantiles}, indent=2).encode() + b"\n"


def _slice_distance_mm(source: Mapping[str, Any]) -> float:
    positions = source.get("slice_positions_mm", ())
    return float(np.median(np.abs(np.diff(positions)))) if len(positions) > 1 else float("nan")


def _dice(readers: NDArray[np.bool_]) -> float:
    marked = [int(mask.sum()) for mask in readers]
    pairs = list(combinations(range(len(readers)), 2))
    both = [int((readers[a] & readers[b]).sum()) for a, b in pairs]
    return float(
        np.mean(
            [2 * n / max(1, marked[a] + marked[b]) for n, (a, b) in zip(both, pairs, strict=True)]
        )
    )
