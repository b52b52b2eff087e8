"""The tables of a release: ``index.parquet``, one row per nodule, and ``splits.csv``."""

import io
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from storage.layout import case_prefix
from storage.records import CaseFacts, LidcFacts, Member, TableFacts, to_json
from storage.releases.statistics import NoduleStatistics

COLUMNS = {
    "nodule_id": "Id of the nodule, the same in every release",
    "patient_id": "Public id of the patient",
    "split": "train, validation or test; all nodules of a patient are in one split",
    "method": "Matting method whose matte is released",
    "form": "Form of the method's parameters: paper, improved or custom",
    "image_path": "CT in HU, relative to the folder of this table",
    "alpha_path": "Matte, or the mattes of all methods; relative to the folder of this table",
    "diameter_mm": "Diameter of the ball with the volume of the matte, mm",
    "texture": "Readers' mean rating of texture, 1 (ground glass) to 5 (solid)",
    "malignancy": "Readers' mean rating of malignancy, 1 (unlikely) to 5 (likely)",
    "slice_distance_mm": "Median distance between slices of the scan, mm",
    "slice_thickness_mm": "Thickness of the scan's slices, mm",
    "spacing_mm": "Voxel spacing of image and matte along every axis, mm",
    **{f"shape_{axis}": f"Voxels along {axis}" for axis in "zyx"},
    **{
        f"origin_lps_mm_{axis}": f"Centre of the first voxel along {axis} of the patient (LPS), mm"
        for axis in "xyz"
    },
    "unknown_voxels": "Voxels that the trimap leaves to the method",
    "digest": "Digest of the case; equal digests mean equal bytes",
    "reviewer": "Who chose the matte",
    "automatic": "True where no person chose it",
    "stand_in": "True where the CT is simulated",
    "figure_cross_entropy": "Cross-entropy of the readers' mean mask and the matte, nats",
    "figure_compositing_residual": "Root mean square of the intensity that no mixture explains",
    "figure_slice_roughness": "Roughness of the matte across slices over that within them",
    "figure_mass_outside": "Share of the matte's sum outside the readers' union, 0..1",
    "figure_clipped": "Largest distance of the matte from 0..1 before clipping",
}
"""Columns of ``index.parquet`` in their order, with their meaning and unit."""
NUMBERS = ("diameter_mm", "texture", "malignancy", "slice_distance_mm", "slice_thickness_mm")
"""Columns that are empty (NaN) where the source of a nodule does not tell."""
_KEPT = "source_"
"""Prefix of the columns of a curator's table that the recipe keeps."""


def describe_column(name: str) -> str:
    """Return what a column of ``index.parquet`` holds, with its unit."""
    if name.startswith(_KEPT):
        return f"Column {name.removeprefix(_KEPT)} of the curator's table"
    return COLUMNS[name]


def index_table(
    members: Sequence[Member],
    facts: Mapping[str, CaseFacts],
    statistics: Sequence[NoduleStatistics],
) -> bytes:
    """Write ``index.parquet``: one row per nodule.

    Args:
        members: The release's nodules.
        facts: Of their cases, by nodule id.
        statistics: Of the nodules, in the same order.
    """
    rows = [
        _index_row(member, facts[member.nodule_id], one)
        for member, one in zip(members, statistics, strict=True)
    ]
    return write_parquet(pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, np.float64)))


def write_parquet(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def split_table(members: Sequence[Member]) -> bytes:
    """Write ``splits.csv``: nodule, patient, digest, method and split."""
    rows = [
        {
            "nodule": member.nodule_id,
            "patient": member.patient_id,
            "digest": member.digest,
            "method": member.method,
            "split": member.split,
        }
        for member in members
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def _index_row(member: Member, facts: CaseFacts, statistics: NoduleStatistics) -> dict[str, Any]:
    grid = facts.geometry
    source = facts.source
    case = f"../../{case_prefix(member.nodule_id, member.digest)}"
    values: dict[str, Any] = {
        **to_json(member),
        "form": member.form,
        "image_path": f"{case}/image",
        "alpha_path": f"{case}/alpha",
        "diameter_mm": round(float(np.cbrt(6 / np.pi * statistics.volume_mm3)), 2),
        "texture": _mean_rating(facts, "texture"),
        "malignancy": _mean_rating(facts, "malignancy"),
        "slice_distance_mm": statistics.slice_distance_mm,
        "slice_thickness_mm": source.slice_thickness_mm if isinstance(source, LidcFacts) else None,
        "spacing_mm": grid.spacing_mm[0],
        **{f"shape_{axis}": size for axis, size in zip("zyx", grid.shape, strict=True)},
        **{f"origin_lps_mm_{axis}": mm for axis, mm in zip("xyz", grid.origin_lps_mm, strict=True)},
        "unknown_voxels": facts.trimap.unknown_voxels,
    }
    metrics = facts.scores.methods[member.method]
    values |= {f"figure_{name}": value for name, value in metrics.items()}
    kept = source.columns if isinstance(source, TableFacts) else {}
    row = {name: values[name] for name in COLUMNS if name in values}
    return row | {f"{_KEPT}{name}": text for name, text in sorted(kept.items())}


def _mean_rating(facts: CaseFacts, name: str) -> float | None:
    """Return the mean of the readers who gave a rating; None where nobody did."""
    given = [rating.get(name) for rating in facts.ratings]
    marks = [float(mark) for mark in given if isinstance(mark, int | float) and mark]
    return fmean(marks) if marks else None
