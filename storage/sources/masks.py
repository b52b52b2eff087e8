"""Readers' masks in the forms in which people store them.

One file holds one reader or all of them:

- a volume (NIfTI, NRRD, MHA): one mask; a label map of which one value is chosen; or bits, bit r
  for reader r;
- a stack along a fourth axis: one mask a reader;
- a segmentation of 3D Slicer (.seg.nrrd), a DICOM SEG or an RTSTRUCT: one segment a reader.

Masks may have another extent or another storage order than the CT, as long as they share its
voxels: they are placed by their origin.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from matting.errors import InputError
from matting.geometry.grid import Grid
from storage.sources.ct import CtVolume
from storage.sources.dicom_file import is_dicom, read_dicom
from storage.sources.image_io import Stack, Volume, read_stack
from storage.sources.lattice import in_order_of, offset_on, place_box
from storage.sources.segments import Segment, choose_segment, slicer_segments
from storage.sources.table_paths import find_path

READERS_AT_MOST = 16
"""Readers that one nodule can have."""

_LABELLED = re.compile(r"(?P<path>.+):(?P<label>[^:/\\]+)")
_WHAT = "a readers' mask"
_FRAMES = (
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence",
)
"""Where a SEG and an RTSTRUCT name the frames of their coordinates."""


@dataclass(frozen=True, slots=True)
class ReaderEntry:
    """Where one reader's mask is, or those of all readers."""

    path: Path
    label: str
    """Value, number or name of the segment in the file; empty for all that it holds."""

    @staticmethod
    def parse(text: str, folder: Path) -> "ReaderEntry":
        """Parse ``path`` or ``path:label``, relative to a folder.

        A colon that belongs to the name of an existing file is no separator.
        """
        labelled = _LABELLED.fullmatch(text)
        if labelled is None or (folder / text).exists():
            return ReaderEntry(find_path(folder, text), "")
        path = find_path(folder, labelled["path"].strip())
        return ReaderEntry(path, labelled["label"].strip())

    def __str__(self) -> str:
        """Write it without a name of a segment, which may name people."""
        is_number = self.label.isdecimal() and len(self.label) < 5
        return f"{self.path}:{self.label}" if is_number else str(self.path)


def read_masks(
    entries: Sequence[ReaderEntry], ct: CtVolume, number: int | None
) -> NDArray[np.bool_]:
    """Read the masks of one nodule.

    Args:
        entries: One for all readers, or one for each.
        ct: The CT on whose voxels the masks must lie.
        number: How many readers a single entry has; None for as many as it tells.

    Returns:
        The masks (readers, z, y, x), none of them empty.

    Raises:
        InputError: Where a file is missing, unreadable, has another geometry, or holds anything but
            masks.
    """
    if len(entries) == 1:
        masks = _all_readers(entries[0], ct, number)
    else:
        masks = [_one_reader(entry, ct) for entry in entries]
    for reader, mask in enumerate(masks):
        if not mask.any():
            raise InputError(
                "a reader's mask is empty",
                got=f"no voxel of reader {reader} in {entries[min(reader, len(entries) - 1)]}",
                expected="one voxel or more",
                remedy="Correct the mask, or remove the line.",
            )
    return np.stack(masks)


def _all_readers(entry: ReaderEntry, ct: CtVolume, number: int | None) -> list[NDArray[np.bool_]]:
    if entry.label:
        return [_one_reader(entry, ct)]
    grid = ct.grid
    content = _read(entry.path, ct)
    if isinstance(content, Stack):
        if len(content.values) == 1:
            return _bits(entry.path, _whole_numbers(content, 0, entry.path, grid), number)
        return [
            _plain(entry.path, _whole_numbers(content, layer, entry.path, grid))
            for layer in range(len(content.values))
        ]
    return [_placed(segment.mask, entry.path, grid) for segment in content]


def _one_reader(entry: ReaderEntry, ct: CtVolume) -> NDArray[np.bool_]:
    grid = ct.grid
    content = _read(entry.path, ct)
    if not isinstance(content, Stack):
        return _placed(choose_segment(content, entry.label, str(entry)).mask, entry.path, grid)
    if len(content.values) > 1:
        layer = _layer(content, entry)
        return _plain(entry.path, _whole_numbers(content, layer, entry.path, grid))
    values = _whole_numbers(content, 0, entry.path, grid)
    return _labelled(entry, values) if entry.label else _plain(entry.path, values)


def _read(path: Path, ct: CtVolume) -> Stack | list[Segment]:
    """Return the volumes of a file, or its segments where it names them."""
    if path.is_file() and is_dicom(path):
        return _dicom_segments(path, ct)
    stack = read_stack(path, _WHAT)
    return slicer_segments(stack) or stack


def _dicom_segments(path: Path, ct: CtVolume) -> list[Segment]:
    # Loaded only where there is such a file, for they take a second to import.
    from storage.sources.rtstruct import rtstruct_segments
    from storage.sources.seg_object import seg_segments

    header = read_dicom(path, tags=["Modality", *_FRAMES])
    modality = header.get("Modality")
    frames = set(_frames_of_reference(header))
    if ct.frame_of_reference and frames and ct.frame_of_reference not in frames:
        raise InputError(
            "a segmentation is of another scan",
            got=f"FrameOfReferenceUID {', '.join(sorted(frames))} in {path}",
            expected=f"{ct.frame_of_reference}, as the CT has",
            remedy="Give the segmentation of this CT.",
        )
    if modality == "SEG":
        return seg_segments(path)
    if modality == "RTSTRUCT":
        return rtstruct_segments(path, ct.grid)
    raise InputError(
        "a readers' file is no segmentation",
        got=f"DICOM of Modality {modality} in {path}",
        expected="SEG or RTSTRUCT",
        remedy="Give the segmentation of the CT.",
    )


def _frames_of_reference(header: Dataset) -> Iterator[str]:
    """Yield the frames that a SEG or RTSTRUCT refers to."""
    own = [header, *(item for name in _FRAMES[1:] for item in header.get(name) or [])]
    for part in own:
        uid = part.get("FrameOfReferenceUID") or part.get("ReferencedFrameOfReferenceUID")
        if uid:
            yield str(uid).strip()


def _layer(stack: Stack, entry: ReaderEntry) -> int:
    """Return the index of the volume that a label, counted from 0, chooses."""
    if entry.label.isdecimal() and int(entry.label) < len(stack.values):
        return int(entry.label)
    raise InputError(
        "a readers' file holds several masks",
        got=f"{len(stack.values)} in {entry}",
        expected="one, or path:index with an index from 0",
        remedy="Name the one that is meant, or give the file alone for all readers.",
    )


def _whole_numbers(stack: Stack, layer: int, path: Path, grid: Grid) -> NDArray[Any]:
    values = stack.values[layer]
    if not ((values == np.rint(values)) & (values >= 0)).all():
        raise InputError(
            "a mask holds other values than whole numbers from 0",
            got=f"{np.min(values)}..{np.max(values)} in {path}",
            expected="integers",
            remedy="Threshold soft masks first; resample masks with nearest neighbour only.",
        )
    return _placed(Volume(stack.grid, values), path, grid)


def _placed(volume: Volume, path: Path, grid: Grid) -> NDArray[Any]:
    """Lay a mask onto the CT's voxels; refuse marks beyond them."""
    if volume.grid == grid:
        return volume.values
    turned = in_order_of(volume, grid)
    start = offset_on(
        turned,
        grid,
        f"the mask {path}",
        "Give the mask with the CT's origin, spacing and direction (or resample it onto the CT "
        "with nearest neighbour).",
    )
    placed = place_box(turned, grid, start)
    lost = int(np.count_nonzero(turned.values)) - int(np.count_nonzero(placed))
    if lost:
        raise InputError(
            "a mask reaches beyond the CT",
            got=f"{lost} marked voxels outside of it in {path}",
            expected="marks within the CT",
            remedy="Check that mask and CT belong together.",
        )
    return placed


def _labelled(entry: ReaderEntry, values: NDArray[Any]) -> NDArray[np.bool_]:
    found = np.unique(values[values != 0])
    if not entry.label.isdecimal() or int(entry.label) not in found:
        raise InputError(
            "a label does not occur in its mask",
            got=f"a label of {entry}",
            expected=f"one of {', '.join(f'{value:g}' for value in found[:12]) or '(no label)'}",
            remedy="Correct the readers in the table.",
        )
    return np.asarray(values == int(entry.label))


def _plain(path: Path, values: NDArray[Any]) -> NDArray[np.bool_]:
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise InputError(
            "a reader's mask holds several labels",
            got=f"values {', '.join(f'{v:g}' for v in found[:6])} in {path}",
            expected="0 and one other value",
            remedy="Name the nodule's label as path:label, e.g. "
            f"{path.name}:{found[-1]:g}, or give each reader a file with this nodule only.",
        )
    return np.asarray(values != 0)


def _bits(path: Path, values: NDArray[Any], number: int | None) -> list[NDArray[np.bool_]]:
    used = int(np.max(values)).bit_length()
    if used > (number or READERS_AT_MOST):
        raise InputError(
            "a bit-coded mask has more readers than it may",
            got=f"bit {used - 1} set in {path}",
            expected=f"bits 0 to {(number or READERS_AT_MOST) - 1}",
            remedy="Correct n_readers in the table, or the mask.",
        )
    codes = values.astype(np.int64)
    return [(codes >> bit) & 1 == 1 for bit in range(number or max(used, 1))]
