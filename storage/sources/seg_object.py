"""The segments of a DICOM segmentation (SEG), read by highdicom."""

from pathlib import Path

import highdicom as hd
import numpy as np

from matting.errors import InputError
from matting.geometry.grid import Grid, Vector
from storage.sources.image_io import Volume
from storage.sources.segments import Segment


def seg_segments(path: Path) -> list[Segment]:
    """Read the segments of a SEG object, in the order of their numbers.

    Raises:
        InputError: The object cannot be read, is no regular stack of slices, or holds fractions.
    """
    try:
        seg = hd.seg.segread(path)
        return [_segment(seg, int(number), path) for number in sorted(seg.segment_numbers)]
    except InputError:
        raise
    except Exception as error:  # highdicom and pydicom raise many things for what they cannot read
        raise InputError(
            "a DICOM segmentation cannot be read",
            got=f"{type(error).__name__} for {path}",
            expected="binary segments on one regular stack of slices",
            remedy="Export it again on the CT's own slices, or convert it to NIfTI.",
        ) from error


def _segment(seg: hd.seg.Segmentation, number: int, path: Path) -> Segment:
    volume = seg.get_volume(segment_numbers=[number])
    values = volume.array[..., 0]
    if not np.isin(values, (0, 1)).all():
        raise InputError(
            "a segment holds fractions",
            got=f"segment {number} of {path}",
            expected="0 and 1 only",
            remedy="Threshold it first.",
        )
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    z, y, x = (_vector(axis) for axis in (volume.affine[:3, :3] / spacing).T)
    slices, rows, columns = values.shape
    grid = Grid((slices, rows, columns), _vector(spacing), _vector(volume.affine[:3, 3]), (z, y, x))
    name = str(seg.get_segment_description(number).segment_label)
    return Segment(number, name, Volume(grid, np.asarray(values != 0)))


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (np.asarray(values, np.float64) + 0.0).tolist()  # no negative zeros
    return x, y, z
