"""Segments by number and name: of 3D Slicer's .seg.nrrd, and the choice of one of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matting.errors import InputError
from storage.sources.image_io import Stack, Volume

_SEGMENT_NUMBER = re.compile(r"Segment(\d+)_ID")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a file that holds several."""

    number: int
    """As the file counts it."""
    name: str
    mask: Volume
    """Truth values, in any extent and storage order."""


def slicer_segments(stack: Stack) -> list[Segment]:
    """Return the segments of 3D Slicer's segmentation, in their order; empty for other volumes.

    Each has a layer of the stack and a value in it.
    """
    numbers = sorted(int(m[1]) for m in map(_SEGMENT_NUMBER.fullmatch, stack.tags) if m)
    segments = []
    for number in numbers:
        tag = f"Segment{number}_"
        layer = int(stack.tags.get(f"{tag}Layer", 0))
        value = int(stack.tags.get(f"{tag}LabelValue", 1))
        name = stack.tags.get(f"{tag}Name", stack.tags[f"{tag}ID"])
        mask = np.asarray(stack.values[layer] == value)
        segments.append(Segment(number + 1, name, Volume(stack.grid, mask)))
    return segments


def choose_segment(segments: Sequence[Segment], label: str, place: str) -> Segment:
    """Return the segment with a number or a name, or the only one where none is asked for.

    Args:
        segments: Of a file.
        label: The number or name; empty where none is asked for.
        place: Which file it is, for the message.

    Raises:
        InputError: There is no such segment, or there are several.
    """
    by_name = [segment for segment in segments if segment.name == label]
    by_number = [segment for segment in segments if str(segment.number) == label]
    found = by_name or by_number if label else list(segments)
    if len(found) == 1:
        return found[0]
    raise InputError(
        "a readers' file does not say which segment is meant",
        # Names of segments are not shown, since they may name people
        got=f"{_asked(label, len(found))} of {len(segments)} segments in {place}",
        expected="path:name, or path:number with one of "
        + ", ".join(str(segment.number) for segment in segments[:12]),
        remedy="Correct the readers in the table.",
    )


def _asked(label: str, found: int) -> str:
    if not label:
        return "neither name nor number"
    return "a name or number of none" if not found else f"a name of {found}"
