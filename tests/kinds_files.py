"""Kinds of tables that people hold: the number in the survey, how to make it, what is to happen."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk

from tests.kinds import (
    ORIGIN_LPS_MM,
    SPACING_MM,
    affine_ras,
    ct_hu,
    masks,
    write_files,
    write_image,
    write_nifti,
    write_table,
)

Make = Callable[[Path], Path]


def _image(name: str, values: Any = None, *, columns: str = "") -> Make:
    """Write the CT again under another name, or with other values."""

    def make(folder: Path) -> Path:
        write_files(folder)
        write_image(folder / name, ct_hu() if values is None else values)
        return write_table(folder, image=name, more=columns)

    return make


def _nifti(**geometry: Any) -> Make:
    def make(folder: Path) -> Path:
        write_files(folder)
        write_nifti(folder / "ct.nii", ct_hu(), **geometry)
        return write_table(folder, image="ct.nii")

    return make


def _readers(readers: str) -> Make:
    def make(folder: Path) -> Path:
        write_files(folder)
        (folder / "copy.nii.gz").symlink_to(folder / "r1.nii.gz")
        return write_table(folder, readers=readers)

    return make


def _with_nan(name: str) -> Make:
    def make(folder: Path) -> Path:
        write_files(folder)
        values = ct_hu().astype(np.float32)
        values[2, 3, 4] = np.nan
        affine = affine_ras()
        write_nifti(folder / "plain.nii", values, sform=affine, sform_code=1, spacing=X_Y_Z)
        content = (folder / "plain.nii").read_bytes()
        packed = name.lower().endswith("gz")
        (folder / name).write_bytes(gzip.compress(content) if packed else content)
        return write_table(folder, image=name)

    return make


def _file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        write_files(folder)
        (folder / name).write_bytes(content)
        return write_table(folder, image=name)

    return make


def _scaled() -> Any:
    return ((ct_hu().astype(np.float32) + 1000) / 2000).clip(0, 1)


def _padded() -> Any:
    """HU + 1024, as some exports are, with -2000 + 1024 outside the field of view."""
    values = ct_hu().astype(np.int16) + 1024
    values[:, :4] = -976
    return values


def _all_oriented(name: str) -> Make:
    """Write the CT and its masks in another storage order."""

    def make(folder: Path) -> Path:
        table = write_files(folder)
        for file in ("ct", "r1", "r2", "r3", "r4"):
            path = str(folder / f"{file}.nii.gz")
            sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(path), name), path)
        return table

    return make


def _masks(change: Callable[[Any], Any], **geometry: Any) -> Make:
    """Write the masks again after a change."""

    def make(folder: Path) -> Path:
        table = write_files(folder)
        for number, mask in enumerate(masks(), 1):
            write_image(folder / f"r{number}.nii.gz", change(mask), **geometry)
        return table

    return make


def _same(mask: Any) -> Any:
    return mask.astype(np.uint8)


def _bytes(start: int, new: bytes, *, swap: bool = False) -> Make:
    """Write the CT as NIfTI, and replace bytes of its header."""

    def make(folder: Path) -> Path:
        write_files(folder)
        values = (ct_hu() + 1000) * 2 if start == SLOPE else ct_hu()
        path = write_nifti(folder / "ct.nii", values, sform=A, sform_code=1, spacing=X_Y_Z)
        content = bytearray(path.read_bytes())
        content[start : start + len(new)] = new
        path.write_bytes(content)
        if swap:
            image = nibabel.load(path)
            header = image.header.as_byteswapped()  # type: ignore[attr-defined]
            header["vox_offset"] = 352
            values = np.asarray(ct_hu().T, header.get_data_dtype())
            path.write_bytes(header.binaryblock + bytes(4) + values.tobytes(order="F"))
        return write_table(folder, image="ct.nii")

    return make


def _short(name: str, keep: int) -> Make:
    def make(folder: Path) -> Path:
        write_files(folder)
        path = write_image(folder / name, ct_hu())
        path.write_bytes(path.read_bytes()[:keep])
        return write_table(folder, image=name)

    return make


SLOPE = 112
"""Where a NIfTI header has slope and intercept."""
X_Y_Z = SPACING_MM[::-1]
A = affine_ras()
EYE = np.eye(4)
MIRRORED = A @ np.diag([-1, 1, 1, 1.0])
AWAY = A + np.array([[0, 0, 0, 0.2], *[[0.0] * 4] * 3])
BOTH = {"sform_code": 1, "qform_code": 1}
SHEARED = {shear: A + np.pad([[0, shear * 0.7]], ((0, 3), (0, 2))) for shear in (1e-4, 5e-4, 5e-2)}
READ = ""
_TWO = r"two geometries that disagree: got sform has voxels of .* but {} has voxels of .* apart"

KINDS: list[tuple[str, Make, str]] = [
    ("48 NIfTI", write_files, READ),
    ("48 MetaImage", _image("ct.mha"), READ),
    ("48 MetaImage in two files", _image("ct.mhd"), READ),
    ("48 NRRD", _image("ct.nrrd"), READ),
    ("48 NRRD in two files", _image("ct.nhdr"), READ),
    ("53 masks of 255", _masks(lambda mask: mask.astype(np.uint8) * 255), READ),
    ("53 masks of floats", _masks(lambda mask: mask.astype(np.float32)), READ),
    ("53 soft masks", _masks(lambda mask: mask * np.float32(0.999)), "values than whole numbers"),
    ("53 masks of -1", _masks(lambda mask: -mask.astype(np.int16)), "whole numbers from 0: got -1"),
    ("54 two dimensions", _image("ct.mha", ct_hu()[0]), "not one volume of plain numbers"),
    ("55 HU + 1024", _image("ct.mha", ct_hu() + 1024), r"not in HU: got .*perhaps HU \+ 1024"),
    ("55 HU + 1024, unsigned", _image("ct.mha", (ct_hu() + 1024).astype(np.uint16)), "not in HU"),
    ("55 HU + 1024, padded", _image("ct.mha", _padded()), "not in HU: .*between air and tissue"),
    ("55 0..1", _image("ct.mha", _scaled()), "0.045 to .*scaled to 0..1"),
    ("55 0..255", _image("ct.mha", (_scaled() * 255).astype(np.uint8)), "picture of 8 bits"),
    ("55 MRI", _image("ct.mha", np.abs(ct_hu().astype(np.int16))), "not in HU: .*no CT at all"),
    ("55 constant", _image("ct.mha", np.zeros_like(ct_hu())), "no contrast at all"),
    ("55 upside down", _image("ct.mha", -ct_hu()), "not in HU"),
    ("55 subtracted twice", _image("ct.mha", ct_hu() - 1024), "not in HU|marked no tissue"),
    (
        "55 HU + 1024, converted",
        _image("ct.mha", ct_hu() + 1024, columns="hu_offset=-1024"),
        READ,
    ),
    (
        "55 tenths of HU, converted",
        _image("ct.mha", ct_hu() * 10, columns="hu_slope=0.1,hu_offset="),
        READ,
    ),
    ("55 slope 0", _image("ct.mha", columns="hu_slope=0"), "hu_slope of n1 .*got 0,"),
    ("55 offset in words", _image("ct.mha", columns="hu_offset=x"), "hu_offset of n1 .*some"),
    ("56 both alike", _nifti(sform=A, qform=A, **BOTH), READ),
    ("56 sform alone", _nifti(sform=A, sform_code=1, spacing=X_Y_Z), READ),
    ("56 qform alone", _nifti(qform=A, qform_code=1), READ),
    ("56 sform is 1 mm", _nifti(sform=EYE, qform=A, **BOTH), _TWO.format("qform")),
    (
        "56 sform is 1 mm alone",
        _nifti(sform=EYE, sform_code=2, spacing=X_Y_Z),
        _TWO.format("pixdim"),
    ),
    ("56 pixdim is 1 mm", _nifti(sform=A, sform_code=1, spacing=(1, 1, 1)), _TWO.format("pixdim")),
    ("56 mirrored", _nifti(sform=MIRRORED, qform=A, **BOTH), _TWO.format("qform")),
    ("56 0.2 mm aside", _nifti(sform=AWAY, qform=A, **BOTH), _TWO.format("qform")),
    ("56 codes 0, sform", _nifti(sform=A, spacing=X_Y_Z), r"sform \(code 0\) has .* but pixdim"),
    ("56 codes 0, qform", _nifti(qform=A), r"qform \(code 0\) has .* but pixdim"),
    ("57 shear 1e-4", _nifti(sform=SHEARED[1e-4], sform_code=1, spacing=X_Y_Z), READ),
    ("57 shear 5e-4", _nifti(sform=SHEARED[5e-4], sform_code=1, spacing=X_Y_Z), READ),
    ("57 shear 5e-2", _nifti(sform=SHEARED[5e-2], sform_code=1, spacing=X_Y_Z), "must be orthogo"),
    ("58 all in RAS order", _all_oriented("RAS"), READ),
    ("58 all in LAS order", _all_oriented("LAS"), READ),
    ("60 masks 0.03 mm off", _masks(_same, origin=np.add(ORIGIN_LPS_MM, (0.03, 0, 0))), READ),
    ("60 masks 0.06 mm off", _masks(_same, origin=np.add(ORIGIN_LPS_MM, (0.06, 0, 0))), "0.060 mm"),
    ("61 masks without a place", _masks(_same, origin=(0, 0, 0)), "another geometry than the CT"),
    ("62 NaN", _with_nan("ct.nii"), "no numbers: got 1 of 9600 NaN"),
    ("62 NaN, suffix in capitals", _with_nan("CT.NII.GZ"), "no numbers: got 1 of 9600 NaN"),
    ("62 NaN, mixed suffix", _with_nan("ct.Nii"), "no numbers: got 1 of 9600 NaN"),
    ("62 two files, packed", _with_nan("ct.img.gz"), "split over two files"),
    ("62 NaN in MetaImage", _image("ct.mha", np.full(ct_hu().shape, np.nan)), "no numbers"),
    (
        "63 Git LFS",
        _file("ct.nii", b"version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    ("63 empty", _file("ct.nii.gz", b""), "is an empty file"),
    ("63 NumPy", _file("ct.npy", b"\x93NUMPY\1\0"), "a NumPy array, without geometry"),
    ("63 Analyze", _file("ct.nii", b"\x5c\1\0\0" + bytes(400)), "an Analyze header"),
    ("63 NIfTI-2", _file("ct.nii", b"\x1c\2\0\0" + bytes(600)), "a NIfTI-2 file"),
    ("64 NIfTI cut short", _short("ct.nii", 9000), "8648 of 19200 bytes of voxels"),
    ("64 gzip cut short", _short("ct.nii.gz", 3000), "compressed content that cannot be unpacked"),
    ("64 MetaImage cut short", _short("ct.mha", 3000), "it ends early, or the file with its vox"),
    ("64 NRRD cut short", _short("ct.nrrd", 3000), "expected 19200 bytes but received"),
    (
        "64 no voxels",
        _file("ct.mhd", b"ElementDataFile = ct.raw\n"),
        "the CT is a header without its voxels",
    ),
    ("65 slope and intercept", _bytes(SLOPE, np.array([0.5, -1000], "<f4").tobytes()), READ),
    ("65 big endian", _bytes(0, b"\x5c", swap=True), READ),
    ("66 an empty reader", _masks(lambda mask: _same(mask) * 0), "mask is empty: .* of reader 0"),
    ("67 CT as mask", _masks(lambda _: ct_hu()), "whole numbers from 0: got -"),
    (
        "67 one file twice",
        _readers("r1.nii.gz;r1.nii.gz;r3.nii.gz;r4.nii.gz"),
        "listed twice: got files 1 and 2 of column `readers`, which are one file",
    ),
    ("67 spelled otherwise", _readers("r1.nii.gz;./r1.nii.gz;r3.nii.gz;r4.nii.gz"), "listed twice"),
    ("67 by a link", _readers("r1.nii.gz;copy.nii.gz;r3.nii.gz;r4.nii.gz"), "listed twice"),
    (
        "68 DICOM file",
        _file("ct.dcm", bytes(128) + b"DICM"),
        "no CT: .*header without",
    ),
]
