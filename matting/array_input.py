"""Arrays, lengths and masks as users pass them to functions on arrays: checked and converted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matting.errors import InputError

SPACING_LIMITS_MM = (1e-3, 100.0)
"""Spacings that are taken for lengths in mm. CT has 0.2 to 10 mm and micro-CT down to 0.001 mm; a
header in metres (0.0005) or in micrometres (500) lies outside."""


def read_array(name: str, given: object, remedy_if_masked: str) -> NDArray[Any]:
    """Return what NumPy reads, without the mask of a masked array, which must not hide anything.

    Args:
        name: Of the argument, for the message.
        given: An array, nested sequences, or what NumPy reads as an array.
        remedy_if_masked: What to do about masked values.

    Raises:
        InputError: NumPy cannot read it, or it has masked values.
    """
    try:
        # Slices may be masked arrays too, and only numpy.ma keeps the masks of a sequence.
        array = np.ma.asarray(given) if isinstance(given, list | tuple) else np.asanyarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the {name} cannot be read as an array",
            got=f"{type_name(given)} ({error})",
            expected="a NumPy array, or what numpy.asarray accepts",
            remedy="Pass an array with rows of equal length; of a tensor, "
            "tensor.detach().cpu().numpy().",
        ) from error
    hidden = int(np.ma.getmaskarray(array).sum()) if isinstance(array, np.ma.MaskedArray) else 0
    if hidden:
        raise InputError(
            f"the {name} is masked",
            got=f"{hidden} masked values",
            expected="a value everywhere",
            remedy=remedy_if_masked,
        )
    return np.asarray(array)


def read_spacing(spacing_mm: float | Sequence[float]) -> tuple[float, float, float]:
    """Return voxel spacing as three floats.

    Args:
        spacing_mm: Along (z, y, x) in mm, or one number for cubic voxels.

    Returns:
        Along (z, y, x), within SPACING_LIMITS_MM.

    Raises:
        InputError: It is no length, or not one or three of them, or hardly in mm.
    """
    given = read_array("spacing", spacing_mm, "Check the image header.")
    if given.ndim == 0:
        given = np.repeat(given, 3)
    lengths = given.tolist()
    real = given.dtype.kind in "iuf" and given.shape == (3,)
    if not real or not all(np.isfinite(length) and length > 0 for length in lengths):
        raise InputError(
            "voxel spacing must be positive",
            got=spacing_mm,
            expected="three lengths in mm above 0 along (z, y, x), or one for cubic voxels",
            remedy="Check the image header.",
        )
    least, most = SPACING_LIMITS_MM
    if not all(least <= length <= most for length in lengths):
        raise InputError(
            "voxel spacing is hardly in mm",
            got=spacing_mm,
            expected=f"{least} to {most:g} mm",
            remedy="Check the image header's unit; it may be in metres or micrometres.",
        )
    return float(lengths[0]), float(lengths[1]), float(lengths[2])


def read_masks(
    masks: ArrayLike, shape: tuple[int, ...] | None = None, name: str = "readers' masks"
) -> NDArray[np.bool_]:
    """Return the readers' masks as truth values.

    Args:
        masks: (readers, z, y, x), truth values, or numbers that are exactly 0 and 1.
        shape: Of the volume (z, y, x); None for any.
        name: Of the argument, for the message.

    Returns:
        The masks, at least one.

    Raises:
        InputError: They are no masks, or of another shape.
    """
    given = read_array(name, masks, "Say what a reader marked in every voxel.")
    if given.ndim != 4 or shape not in (None, given.shape[1:]) or not len(given):
        raise InputError(
            f"the {name} do not fit the volume",
            got=given.shape,
            expected=f"(readers, {', '.join(map(str, shape or 'zyx'))})",
            remedy="Stack one mask a reader, on the volume's grid.",
        )
    if given.dtype.kind != "b" and not np.isin(given, (0, 1)).all():
        raise InputError(
            f"the {name} hold other values than 0 and 1",
            got=np.unique(given)[:5].tolist(),
            expected="truth values, or 0 and 1",
            remedy="Pass masks > 0, or split a volume of bits into one mask a reader.",
        )
    marked: NDArray[np.bool_] = given.astype(bool, copy=False)
    return marked


def type_name(given: object) -> str:
    """Return the name of a value's type as one would import it."""
    kind = type(given)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
