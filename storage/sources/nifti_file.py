"""NIfTI-1 files, read beside ITK, which neither compares their geometries nor keeps NaN.

A NIfTI file states its geometry up to three times: as a matrix (sform), as a rotation with an
offset (qform) and as spacing (pixdim). ITK and other readers choose differently among them, so they
must agree.
"""

import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from matting.errors import InputError
from matting.geometry.grid import Grid, Vector

AGREEMENT_MM = 0.05
"""Farthest that two geometries of one file may lie apart at any corner."""
HEADER_BYTES = 348
"""What a NIfTI-1 file begins with; in the other order of bytes the file is big-endian."""

VOXELS_AT_MOST_BYTES = 16 * 10**9
"""A CT of 2,000 slices of 1,024 x 1,024 voxels in double precision has about as many."""
_PIECE_BYTES = 1 << 24

_NIFTI_2_BYTES = 540
_GZIP = b"\x1f\x8b"
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class NiftiFile:
    """The content of a NIfTI-1 file."""

    header: Any
    """nibabel's."""
    content: bytes

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along (z, y, x), and before them along further axes."""
        return tuple(int(n) for n in reversed(self.header.get_data_shape()))

    def stored_values(self) -> NDArray[Any]:
        """Return the voxels as they stand in the file, flat, before scaling.

        Raises:
            ValueError: The file ends before its voxels do.
        """
        dtype = self.header.get_data_dtype()
        count = int(np.prod(self.shape))
        start = int(self.header["vox_offset"])
        got = len(self.content) - start
        if got < count * dtype.itemsize:
            raise ValueError(f"{max(got, 0)} of {count * dtype.itemsize} bytes of voxels")
        return np.frombuffer(self.content, dtype, count, start)

    def values(self) -> NDArray[Any]:
        """Return the voxels (z, y, x), scaled by the header's slope and intercept."""
        stored = self.stored_values().reshape(self.shape)
        slope, intercept = self.header.get_slope_inter()
        if slope is None or (slope, intercept) == (1, 0):
            return stored
        scaled: NDArray[Any] = stored * float(slope) + float(intercept)
        return scaled

    def grid(self) -> Grid:
        """Return the grid of the file's first geometry.

        ITK refuses a shear of 0.006 degrees; a grid allows more.

        Raises:
            InputError: The axes are farther from a rotation than a grid allows.
        """
        affine = next(iter(self.affines().values()))
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        x, y, z = (_vector(axis) for axis in (affine[:3, :3] / spacing).T)
        depth, rows, columns = self.shape[-3:]
        return Grid(
            (depth, rows, columns), _vector(spacing[::-1]), _vector(affine[:3, 3]), (z, y, x)
        )

    def affines(self) -> Mapping[str, NDArray[np.float64]]:
        """Return every geometry that the file states, in LPS and mm, by name.

        Each takes (x, y, z, 1), counted in voxels. The first one is that of the standard.
        """
        return dict(self._affines())

    def _affines(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        header = self.header
        unit = np.diag([*[_MM_PER_UNIT[header.get_xyzt_units()[0]]] * 3, 1.0])
        to_lps = unit @ _RAS_TO_LPS
        spacing = np.asarray(header["pixdim"][1:4], np.float64)
        coded_sform, coded_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
        uncoded = not coded_sform and not coded_qform
        sform = np.asarray(header.get_sform(), np.float64)
        if coded_sform or (uncoded and sform[:3].any()):
            yield "sform" if coded_sform else "sform (code 0)", to_lps @ sform
        quaternion = [float(header[name]) for name in _QUATERNION]
        if coded_qform or (uncoded and any(quaternion)):
            yield "qform" if coded_qform else "qform (code 0)", to_lps @ header.get_qform()
        if coded_sform:
            lengths = np.linalg.norm(sform[:3, :3], axis=0)
            scale = np.divide(spacing, lengths, out=np.zeros(3), where=lengths > 0)
            yield "pixdim", to_lps @ sform @ np.diag([*scale, 1.0])
        elif uncoded:
            yield "pixdim", unit @ np.diag([*spacing, 1.0])


_QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


def read_nifti(path: Path) -> NiftiFile | None:
    """Read a NIfTI-1 file, compressed or not, whatever its name; None for any other format.

    Raises:
        ValueError: It is compressed and cannot be unpacked, or is of a kin of NIfTI-1; the message
            says so.
        OSError: It cannot be opened.
    """
    with path.open("rb") as stream:
        is_packed = stream.read(2) == _GZIP
    try:
        with gzip.open(path) if is_packed else path.open("rb") as stream:
            start = stream.read(HEADER_BYTES)
            size = {int.from_bytes(start[:4], order) for order in ("little", "big")}
            if _NIFTI_2_BYTES in size:
                raise ValueError("a NIfTI-2 file")
            if HEADER_BYTES not in size or len(start) < HEADER_BYTES:
                return None
            if start[344:347] not in (b"n+1", b"ni1"):
                raise ValueError("an Analyze header, which does not say where the voxels lie")
            header = nibabel.Nifti1Header.from_fileobj(BytesIO(start), check=False)
            # A small file may unpack to any size: no more is read than its header tells
            content = start + _read(cast("BinaryIO", stream), _end_of_voxels(header) - HEADER_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"compressed content that cannot be unpacked ({error})") from error
    offset = float(header["vox_offset"])
    if start[344:347] == b"n+1" and not HEADER_BYTES <= offset <= len(content):
        place = "in the header" if offset < HEADER_BYTES else "after the end"
        raise ValueError(f"voxels that begin at byte {offset:g}, {place}")
    return NiftiFile(header, content)


def _read(stream: BinaryIO, size: int) -> bytes:
    """Read up to a size; memory is taken for what is there, not for what the header promises."""
    pieces = []
    while size > 0 and (piece := stream.read(min(size, _PIECE_BYTES))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _end_of_voxels(header: Any) -> int:
    """Return where the voxels end, in bytes; raises ValueError where the header tells none."""
    try:
        shape = [int(n) for n in header.get_data_shape()]
        voxel_bytes = int(header.get_data_dtype().itemsize)
        size = int(header["vox_offset"]) + math.prod(shape) * voxel_bytes
    except (nibabel.spatialimages.HeaderDataError, OverflowError, ValueError) as error:
        raise ValueError(f"a header that tells no size of its voxels ({error})") from error
    if not shape or min(shape) < 1 or size > VOXELS_AT_MOST_BYTES:
        raise ValueError(
            f"a header of {' x '.join(map(str, shape)) or 'no'} voxels, more than "
            f"{VOXELS_AT_MOST_BYTES // 10**9} GB or none"
        )
    return size


def check_agreement(
    affines: Mapping[str, NDArray[np.float64]], shape: tuple[int, ...], path: Path, what: str
) -> None:
    """Refuse geometries of one file that differ by more than AGREEMENT_MM at any corner.

    Args:
        affines: By name, as `NiftiFile.affines` returns them.
        shape: Voxels; the last three along (z, y, x).
        path: The file, for the message.
        what: What it is, for the message.

    Raises:
        InputError: They do; the message has both.
    """
    (first, wanted), *others = affines.items()
    sides = (*shape[::-1], 1, 1)[:3]
    corners = np.array([(*c, 1) for c in product(*((0, n - 1) for n in sides))])
    for name, affine in others:
        apart = float(np.linalg.norm((corners @ (wanted - affine).T)[:, :3], axis=1).max())
        if not apart <= AGREEMENT_MM:
            raise InputError(
                f"{what} has two geometries that disagree",
                got=f"{_describe(first, wanted)}, but {_describe(name, affine)}, up to {apart:.2f} "
                f"mm apart ({path})",
                expected=f"one geometry, or several within {AGREEMENT_MM} mm",
                remedy="Find out which one is right, and write the file with that one alone "
                "(nibabel: image.set_sform(affine, 1); image.set_qform(affine, 1)).",
            )


def check_scale(header: Any, path: Path, what: str) -> None:
    """Refuse an offset of values without a slope: the standard leaves it out, ITK adds it.

    Raises:
        InputError: The header, nibabel's, has slope 0 and another offset.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 and math.isfinite(intercept) and intercept:
        raise InputError(
            f"{what} has values that programs read in two ways",
            got=f"scl_slope 0 and scl_inter {intercept:g} in {path}",
            expected="an offset with a slope, or neither",
            remedy="Find out which one is right, and set scl_slope to 1, or scl_inter to 0.",
        )


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (values + 0.0).tolist()  # no negative zeros
    return x, y, z


def _describe(name: str, affine: NDArray[np.float64]) -> str:
    spacing = " x ".join(f"{n:.4g}" for n in np.linalg.norm(affine[:3, :3], axis=0))
    origin = ", ".join(f"{n:.2f}" for n in affine[:3, 3])
    axes = " ".join(f"({', '.join(f'{n:.3g}' for n in axis)})" for axis in affine[:3, :3].T)
    return f"{name} has voxels of {spacing} mm, the first at ({origin}), in steps of {axes}"
