"""Which images of a series are its slices, where several have one position.

Images with equal pixels are one slice. Images computed from others (DERIVED, SECONDARY, or with a
SourceImageSequence) never take part beside originals. Where different images remain at one
position, one attribute must tell whole image sets apart: each set has one image at every position.
Then the set with the smallest value is the series, and carries its name; else nothing is chosen.
The same holds for sets whose slices lie between each other.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.sources.dicom_headers import SliceHeader
from storage.sources.dicom_pixels import pixel_key

POSITION_TOLERANCE_MM = 0.05
"""Slices closer than this have the same position, and may stray this far from an even lattice.

LIDC-IDRI's positions carry 6 digits and its smallest distance of slices is 0.45 mm.
"""

Attribute = Callable[[SliceHeader], str]

_ATTRIBUTES: Mapping[str, Attribute] = {
    "AcquisitionNumber": lambda header: header.acquisition,
    "ImageType": lambda header: header.image_type,
    "ConvolutionKernel": lambda header: header.kernel,
    "ImageOrientationPatient": lambda header: _text(header.orientation),
    "PixelSpacing and size": lambda header: _text(header.pixel_spacing_mm + header.shape),
    "in-plane position": lambda header: _text(header.position_lps_mm[:2]),
}
"""What may tell image sets apart, in the order in which it is tried."""
_OF_A_SET = ("AcquisitionNumber", "ImageType", "ConvolutionKernel")
"""Those of them that slices of one set have in common, or that change once along it."""


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """The slices of a series."""

    kept: tuple[SliceHeader, ...]
    """Along the normal; one per position unless `ambiguous_positions`."""
    duplicates: tuple[SliceHeader, ...]
    """Copies of slices that are kept."""
    name: str
    """Which of several sets they are; empty where there is one."""
    ambiguous_positions: int
    """Positions with several different images that nothing tells apart."""
    set_aside: Mapping[str, str]
    """Files that are not part of the set, and why."""


def choose_images(headers: Sequence[SliceHeader], normal: NDArray[np.float64]) -> ImageChoice:
    """Choose one image per position.

    Args:
        headers: All images of a series that lie in parallel planes.
        normal: Unit vector along which they are ordered.
    """
    has_originals = any(header.is_original for header in headers)
    originals = [header for header in headers if header.is_original == has_originals]
    set_aside = {
        header.path.name: "computed from other images (DERIVED or SECONDARY)"
        for header in headers
        if header.is_original != has_originals
    }
    groups, duplicates = _without_copies(_by_position(originals, normal))
    ambiguous = sum(len(group) > 1 for group in groups)
    if not ambiguous:
        return _separate(_flat(groups), normal, duplicates, set_aside)
    for name, attribute in _ATTRIBUTES.items():
        values = sorted({attribute(h) for group in groups for h in group}, key=_natural)
        chosen = _find_whole_set(groups, attribute, values)
        if chosen is not None:
            return _choice(_flat(groups), name, values, chosen, duplicates, set_aside)
    return ImageChoice(_flat(groups), duplicates, "", ambiguous, set_aside)


def _choice(
    headers: Sequence[SliceHeader],
    name: str,
    values: Sequence[str],
    chosen: str,
    duplicates: tuple[SliceHeader, ...],
    set_aside: dict[str, str],
) -> ImageChoice:
    """Return the images with one value of an attribute, and name the others."""
    attribute = _ATTRIBUTES[name]
    title = f"{name} {chosen or '(none)'}"
    kept = tuple(header for header in headers if attribute(header) == chosen)
    others = {
        header.path.name: f"of another image set than {title}"
        for header in headers
        if attribute(header) != chosen
    }
    among = f"{title} of {', '.join(value or '(none)' for value in values)}"
    return ImageChoice(kept, duplicates, among, 0, set_aside | others)


def _separate(
    headers: tuple[SliceHeader, ...],
    normal: NDArray[np.float64],
    duplicates: tuple[SliceHeader, ...],
    set_aside: dict[str, str],
) -> ImageChoice:
    """Return the slices of one image set where the slices of several alternate.

    An attribute whose values come back along the normal (A B A B) marks sets; that it only changes
    (A A B B), as the acquisitions of a step-and-shoot scan do, does not.
    """
    positions = np.array([header.position_lps_mm for header in headers]) @ normal
    for name in _OF_A_SET:
        told = [_ATTRIBUTES[name](header) for header in headers]
        starts = [value for k, value in enumerate(told) if k == 0 or value != told[k - 1]]
        if "" in told or len(starts) == len(set(starts)):
            continue
        values = sorted(set(told), key=_natural)
        for value in values:
            steps = np.diff(positions[[other == value for other in told]])
            if len(steps) and np.ptp(steps) <= 2 * POSITION_TOLERANCE_MM:
                return _choice(headers, name, values, value, duplicates, set_aside)
        return ImageChoice(headers, duplicates, "", len(headers), set_aside)
    return ImageChoice(headers, duplicates, "", 0, set_aside)


def _find_whole_set(
    groups: list[list[SliceHeader]], attribute: Attribute, values: Sequence[str]
) -> str | None:
    """Return the first value with an image at every position, if none has two at any."""
    counts = [Counter(attribute(header) for header in group) for group in groups]
    if any(count > 1 for group in counts for count in group.values()):
        return None
    return next((value for value in values if all(value in group for group in counts)), None)


def _by_position(
    headers: Sequence[SliceHeader], normal: NDArray[np.float64]
) -> list[list[SliceHeader]]:
    positions = np.array([header.position_lps_mm for header in headers]) @ normal
    order = np.argsort(positions, kind="stable")
    starts = np.flatnonzero(np.diff(positions[order]) > POSITION_TOLERANCE_MM) + 1
    return [
        sorted((headers[i] for i in group), key=_precedence) for group in np.split(order, starts)
    ]


def _without_copies(
    groups: list[list[SliceHeader]],
) -> tuple[list[list[SliceHeader]], tuple[SliceHeader, ...]]:
    """Keep the first of the images of a group that have equal pixels and geometry."""
    kept: list[list[SliceHeader]] = []
    copies: list[SliceHeader] = []
    for group in groups:
        distinct: dict[tuple[object, ...], SliceHeader] = {}
        for header in group:
            key = () if len(group) == 1 else (pixel_key(header), header.orientation, header.shape)
            if key in distinct:
                copies.append(header)
            distinct.setdefault(key, header)
        kept.append(list(distinct.values()))
    return kept, tuple(copies)


def _flat(groups: list[list[SliceHeader]]) -> tuple[SliceHeader, ...]:
    return tuple(header for group in groups for header in group)


def _precedence(header: SliceHeader) -> tuple[bool, int, str, str, int]:
    return (
        header.instance_number is None,
        header.instance_number or 0,
        header.sop_uid,
        str(header.path),
        header.frame or 0,
    )


def _natural(text: str) -> tuple[bool, list[tuple[bool, float, str]]]:
    """Return a key that orders texts by the numbers in them; an empty one comes last."""
    parts = re.findall(r"-?\d+(?:\.\d+)?|[^\d-]+|-", text)
    number = re.compile(r"-?\d+(?:\.\d+)?")
    return not text, [
        (False, float(part), "") if number.fullmatch(part) else (True, 0.0, part) for part in parts
    ]


def _text(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
