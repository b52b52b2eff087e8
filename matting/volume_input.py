"""What the public functions accept: arrays, trimaps, spacings, methods and parameters, in words.

Every input is brought to one form before anything is computed, so that kind, order in memory and
byte order of an array change no byte of a matte. What has no clear meaning is refused with an
InputError that names what was given, what is expected and what to do.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.array_input import read_array, read_masks, type_name
from matting.errors import InputError
from matting.geometry.grid import Vector
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from matting.parameters import Parameters

SMALLEST_SIDE = 3
"""Voxels that a volume needs along each axis to hold a window of 3 x 3 x 3."""
LARGEST_REACH = 10
"""How many times the longest side of the volume a mean may reach. Beyond it a mean holds little but
repeated border voxels, and its filter more memory than the volume."""
KINDS = {
    "b": "truth values",
    "c": "complex numbers",
    "O": "Python objects",
    "S": "text",
    "T": "text",
    "U": "text",
    "V": "records",
    "M": "dates",
    "m": "durations",
}
"""What the kinds of NumPy arrays that are no real numbers are called."""


def check_methods(methods: str | Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names asked for, each once, in the order of their first mention.

    Args:
        methods: Names, or a single one; those that repeat count once.
        known: All names there are.

    Returns:
        At least one name.

    Raises:
        InputError: Nothing that holds names, no name at all, or an unknown name.
    """
    if isinstance(methods, str):
        methods = (methods,)
    if not isinstance(methods, Iterable):
        raise InputError(
            "methods is no sequence of names",
            got=type_name(methods),
            expected=f"some of {', '.join(known)}",
            remedy="Leave it out for all methods.",
        )
    names = tuple(dict.fromkeys(_check_method(name, known) for name in methods))
    if not names:
        raise InputError(
            "no method is asked for",
            got="an empty sequence",
            expected=f"some of {', '.join(known)}",
            remedy="Leave methods out for all of them.",
        )
    return names


def _check_method(name: object, known: Sequence[str]) -> str:
    if isinstance(name, str) and name in known:
        return name
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.0)
    raise InputError(
        "no such method",
        got=repr(name),
        expected=f"one of {', '.join(known)}",
        remedy=f"Did you mean {near[0]!r}?",
    )


def check_parameters(parameters: Parameters | None) -> Parameters:
    """Return the parameters, or the defaults for None.

    Raises:
        InputError: They, or one of their sections, are of another type.
    """
    if parameters is None:
        return Parameters()
    if not isinstance(parameters, Parameters):
        raise InputError(
            "parameters are of another type",
            got=type_name(parameters),
            expected="matting.Parameters, or None for the defaults",
            remedy="Write Parameters(knn=KnnSettings(...)) with the sections of "
            "matting.parameters; a recipe's are Recipe.parameters.",
        )
    for section in fields(Parameters):
        given = getattr(parameters, section.name)
        if not isinstance(given, section.default_factory):  # type: ignore[arg-type]
            raise InputError(
                f"the section {section.name} of the parameters is of another type",
                got=type_name(given),
                expected=f"matting.parameters.{section.default_factory.__name__}",  # type: ignore[union-attr]
                remedy="Give a section as an object of its class.",
            )
    return parameters


def read_volume(volume_hu: ArrayLike) -> NDArray[np.floating]:
    """Return radiodensities as float32 or float64 in the machine's byte order.

    Args:
        volume_hu: (z, y, x), real numbers: an array of any precision, order in memory and byte
            order, nested sequences, or what NumPy reads as an array (a tensor on the CPU). Not
            copied if it is float32 or float64 already, and never modified.

    Returns:
        (z, y, x), at least 3 voxels along each axis, finite.

    Raises:
        InputError: It is no array of real numbers, masked, too small, or not finite.
    """
    given = read_array("volume", volume_hu, "Replace what was not measured by air (-1000 HU).")
    _check_real("volume", given, "radiodensities in HU", "Convert it with .astype(float).")
    if given.ndim != 3 or min(given.shape) < SMALLEST_SIDE:
        raise InputError(
            "the volume is too small for windows of 3 x 3 x 3 voxels",
            got=given.shape,
            expected=f"(z, y, x), each at least {SMALLEST_SIDE}",
            remedy="Crop with more margin around the lesion.",
        )
    kept = given.dtype in (np.float32, np.float64)
    volume: NDArray[np.floating] = given if kept else given.astype(np.float64)
    if not np.isfinite(volume).all():
        raise InputError(
            "the volume holds values that are no radiodensity",
            got=f"{int((~np.isfinite(volume)).sum())} voxels NaN or infinite",
            expected="finite HU",
            remedy="Replace what was not measured by air (-1000 HU).",
        )
    return volume


def read_trimap(trimap: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a trimap as uint8.

    Args:
        trimap: (z, y, x), real numbers that are exactly BACKGROUND, UNKNOWN or FOREGROUND.
        shape: Of the volume.

    Returns:
        The labels; both known ones occur.

    Raises:
        InputError: It is no array of numbers, masked, of another shape, or holds other labels; or
            a known label does not occur.
    """
    expected = f"{BACKGROUND} background, {UNKNOWN} unknown, {FOREGROUND} foreground"
    build = "Build it with matting.geometry.trimap.build_trimap."
    given = read_array("trimap", trimap, f"Label masked voxels {UNKNOWN} or {BACKGROUND}.")
    _check_real("trimap", given, expected, build)
    if given.shape != shape:
        raise InputError(
            "the trimap does not fit the volume",
            got=given.shape,
            expected=shape,
            remedy="Resample both to one grid.",
        )
    strange = (given != BACKGROUND) & (given != UNKNOWN) & (given != FOREGROUND)
    if strange.any():
        raise InputError(
            "the trimap holds unknown labels",
            got=np.unique(given[strange])[:5].tolist(),
            expected=expected,
            remedy=build,
        )
    labels: NDArray[np.uint8] = given.astype(np.uint8, copy=False)
    for name, label in (("foreground", FOREGROUND), ("background", BACKGROUND)):
        if not (labels == label).any():
            raise InputError(
                f"the trimap has no {name}",
                got=f"no voxel {label}",
                expected="at least one",
                remedy="Dilate the unknown region less.",
            )
    return labels


def read_readers(readers: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the readers' masks as truth values.

    Args:
        readers: (readers, z, y, x), truth values, or numbers that are exactly 0 and 1.
        shape: Of the volume.

    Returns:
        The masks, at least one; each has voxels inside and outside.

    Raises:
        InputError: They are no masks, of another shape, or a reader marked nothing or everything.
    """
    masks = read_masks(readers, shape)
    for reader, mask in enumerate(masks):
        if mask.all() or not mask.any():
            raise InputError(
                "a reader's mask has no outline",
                got=f"{'everything' if mask.any() else 'nothing'} marked by reader {reader}",
                expected="voxels inside and outside",
                remedy="Leave that reader out, or check the mask's file.",
            )
    return masks


def check_reach(reach_mm: float, spacing_mm: Vector, shape: tuple[int, ...]) -> None:
    """Refuse a mean that reaches far beyond the volume.

    Args:
        reach_mm: The largest reach of a second channel.
        spacing_mm: Along (z, y, x).
        shape: Voxels of the volume along (z, y, x).

    Raises:
        InputError: It reaches more than LARGEST_REACH times the longest side.
    """
    most = LARGEST_REACH * max(shape)
    if any(reach_mm / spacing > most for spacing in spacing_mm):
        raise InputError(
            "the means of the second channel reach far beyond the volume",
            got=f"{reach_mm:g} mm at voxels of {spacing_mm} mm",
            expected=f"at most {most} voxels, {LARGEST_REACH} times the longest side",
            remedy="Check spacing_mm, or lower mean_reach_mm.",
        )


def check_scale(volume_hu: NDArray[np.floating], range_hu: tuple[float, float]) -> None:
    """Refuse values that are no HU: raw values before the rescale, or intensities 0..1.

    Lung, fat and air lie below 0 HU (water), so a volume with a lung nodule has negative values. A
    constant volume, and a range of intensity that begins at 0 or above, say nothing of the scale.

    Args:
        volume_hu: (z, y, x), finite.
        range_hu: HU mapped to intensities 0..1.

    Raises:
        InputError: No value is negative although the range begins below 0.
    """
    if range_hu[0] >= 0:
        return
    least, most = float(volume_hu.min()), float(volume_hu.max())
    if 0 <= least < most:
        raise InputError(
            "the volume is not in HU",
            got=f"values from {least:g} to {most:g}, none below 0",
            expected="HU, where water is 0, lung about -850 and air -1000",
            remedy="Apply the header's rescale slope and intercept (often 1 and -1024), or set "
            "solver.intensity_range_hu to the range that the values have.",
        )


def _check_real(name: str, array: NDArray[Any], expected: str, remedy: str) -> None:
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"the {name} holds no real numbers",
            got=f"{KINDS.get(array.dtype.kind, 'values')} ({array.dtype})",
            expected=expected,
            remedy=remedy,
        )
