"""A table of volume files: which nodules there are, what is read of one, and what is refused."""

import gzip
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

import storage.sources.table
from matting.errors import InputError
from matting.geometry.patch import AIR_HU
from storage.recipe import SourceSettings
from storage.records import TableFacts
from storage.sources.base import Exclusion, Inventory, Nodule, Reading
from storage.sources.detached import voxel_files
from storage.sources.table import FilesSource
from tests.kinds import write_dicom

SHAPE = (9, 7, 6)
SPACING_XYZ = (0.5, 0.625, 2.0)
ORIGIN = (-30.0, 12.5, 100.0)


def write(path: Path, values: Any, **geometry: Any) -> Path:
    image = sitk.GetImageFromArray(np.asarray(values))
    image.SetSpacing(geometry.get("spacing", SPACING_XYZ))
    image.SetOrigin(geometry.get("origin", ORIGIN))
    image.SetDirection(geometry.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    sitk.WriteImage(image, str(path))
    return path


def image_hu() -> Any:
    image = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image[3, 0, 0], image[3, 0, 1] = -1025, -1024
    return image


def codes() -> Any:
    """Four readers in the slices 3 to 5; the fourth in slice 5 only."""
    masks = np.zeros(SHAPE, np.uint8)
    masks[3:5, 2:4, 2:5] = 0b0111
    masks[5, 2, 3] = 0b1111
    return masks


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write(tmp_path / "ct.nii.gz", image_hu())
    write(tmp_path / "readers.nii.gz", codes())
    return write_table(tmp_path)


def write_table(
    folder: Path, *lines: str, header: str = "nodule,patient,image,readers,texture"
) -> Path:
    file = folder / "table.csv"
    file.write_text(
        "\n".join([header, *(lines or ("n-1,P1,ct.nii.gz,readers.nii.gz,solid",))]) + "\n"
    )
    return file


def source(table: Path) -> FilesSource:
    header = table.read_bytes().split(b"\n")[0] if table.is_file() else b""
    return FilesSource(table, SourceSettings(keep=("texture",) if b"texture" in header else ()))


def inventory(table: Path, **how: Any) -> Inventory:
    return source(table).inventory(**{"readers": 4, **how})


def read(table: Path, *, padding_slices: int = 1, readers: int = 4) -> Reading:
    (nodule,) = inventory(table, readers=readers).nodules
    return source(table).read(nodule, padding_slices=padding_slices)


def test_whole_slices_around_the_union_are_read(table: Path) -> None:
    reading = read(table)
    patch = reading.patch
    assert patch.grid.shape == (5, 7, 6)
    assert patch.grid.spacing_mm == pytest.approx((2.0, 0.625, 0.5))
    assert patch.grid.to_patient((4, 3, 2)) == pytest.approx(
        (-30 + 2 * 0.5, 12.5 + 3 * 0.625, 100 + 6 * 2)
    )
    assert patch.image_hu[1, 1, 1] == image_hu()[3, 1, 1]
    assert patch.readers.sum(axis=(1, 2, 3)).tolist() == [13, 13, 13, 1]
    assert patch.readers[3, 3, 2, 3]
    assert patch.known_alpha is None
    assert not reading.synthetic
    assert reading.provenance == TableFacts({"texture": "solid"})
    assert read(table, padding_slices=100).patch.grid.shape == SHAPE


def test_what_lies_below_minus_1024_is_padding(table: Path) -> None:
    patch = read(table).patch
    assert not patch.valid[1, 0, 0]
    assert patch.image_hu[1, 0, 0] == AIR_HU
    assert patch.valid.sum() == patch.valid.size - 1
    assert patch.image_hu[1, 0, 1] == -1024


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".mhd", ".nhdr"])
def test_formats_that_keep_the_same_facts_give_the_same_digest(table: Path, suffix: str) -> None:
    first = read(table)
    write(table.parent / f"ct{suffix}", image_hu())
    write_table(table.parent, f"n-1,P1,ct{suffix},readers.nii.gz,solid")
    assert read(table).content_sha256 == first.content_sha256


def test_masks_can_come_as_one_file_a_reader(table: Path) -> None:
    expected = read(table)
    for bit in range(4):
        write(table.parent / f"r{bit}.nii.gz", ((codes() >> bit) & 1) * np.uint8(255))
    write_table(table.parent, "n-1,P1,ct.nii.gz, r0.nii.gz; r1.nii.gz;r2.nii.gz;r3.nii.gz,solid")
    reading = read(table)
    assert np.array_equal(reading.patch.readers, expected.patch.readers)
    assert reading.content_sha256 == expected.content_sha256


def test_turned_volumes_keep_patient_coordinates(table: Path) -> None:
    turned = (0.0, -1.0, 0.0, 0.6, 0.0, 0.8, -0.8, 0.0, 0.6)
    write(table.parent / "ct.nii.gz", image_hu(), direction=turned)
    write(table.parent / "readers.nii.gz", codes(), direction=turned)
    grid = read(table).patch.grid
    image = sitk.ReadImage(str(table.parent / "ct.nii.gz"))
    assert grid.to_patient((1, 3, 2)) == pytest.approx(
        image.TransformIndexToPhysicalPoint((2, 3, 3)), abs=1e-4
    )


def test_nifti_coordinates_agree_with_another_reader(table: Path) -> None:
    affine = nibabel.load(table.parent / "ct.nii.gz").affine  # type: ignore[attr-defined]
    right, front, head = (affine @ (2, 3, 4, 1))[:3]
    assert read(table).patch.grid.to_patient((2, 3, 2)) == pytest.approx(
        (-right, -front, head), abs=1e-4
    )


def test_a_known_alpha_makes_a_stand_in(table: Path) -> None:
    plain = read(table)
    write(
        table.parent / "alpha.nii.gz",
        np.full((2, 1, 2), 0.5, np.float32),
        origin=(-30 + 0.5, 12.5, 104),
    )
    header = "nodule,patient,image,readers,known_alpha,texture"
    write_table(table.parent, "n-1,P1,ct.nii.gz,readers.nii.gz,alpha.nii.gz,solid", header=header)
    reading = read(table)
    assert reading.patch.known_alpha is not None
    assert np.argwhere(reading.patch.known_alpha).tolist() == [
        [0, 0, 1],
        [0, 0, 2],
        [1, 0, 1],
        [1, 0, 2],
    ]
    assert reading.synthetic
    assert reading.content_sha256 != plain.content_sha256
    write_table(table.parent, "n-1,P1,ct.nii.gz,readers.nii.gz,,solid", header=header)
    assert read(table).content_sha256 == plain.content_sha256


# -- which nodules there are


def test_a_known_other_number_of_readers_is_an_exclusion(table: Path) -> None:
    write_table(
        table.parent,
        "c,P2,ct.nii.gz,readers.nii.gz,",
        "b,P1,ct.nii.gz,readers.nii.gz,3",
        "a,P1,ct.nii.gz,x.nii.gz;y.nii.gz,",
        "d,P1,ct.nii.gz,readers.nii.gz,4",
        header="nodule,patient,image,readers,n_readers",
    )
    found = inventory(table)
    assert [n.id for n in found.nodules] == ["c", "d"]
    assert found.exclusions == (
        Exclusion("a", "P1", "2 readers, 4 asked"),
        Exclusion("b", "P1", "3 readers, 4 asked"),
    )
    assert [n.id for n in inventory(table, patients=frozenset({"P2"})).nodules] == ["c"]
    assert inventory(table, patients=frozenset({"P2"})).exclusions == ()
    with pytest.raises(
        InputError, match=r"unknown patients: got P3, expected some of the 2 patients in .*P1 to P2"
    ):
        inventory(table, patients=frozenset({"P1", "P3"}))


def test_another_number_of_readers_found_in_the_mask_is_refused(table: Path) -> None:
    with pytest.raises(
        InputError, match=r"number of readers than asked for: got 4 readers, 3 asked"
    ):
        read(table, readers=3)


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (
            ["a,b,c,d"],
            "nodul,patient,images,readers",
            r"lacks the columns nodule, image: .*Is 'nodul' meant for 'nodule'",
        ),
        (["a|b|c|d"], "nodule|patient|image|readers", r"lacks .*names separated by commas"),
        (
            ["1,a,b,c,d"],
            ",nodule,patient,image,readers",
            "column of the table has no name: got text in",
        ),
        (["a,b,c,d,e"], "nodule,patient,image,readers,reader1", "names the readers twice"),
        (["a,b,c,d,e"], "nodule,patient,image,readers,image", "columns come twice: got image"),
        (
            ["../up,P,i,r"],
            "nodule,patient,image,readers",
            r"cannot be used as an id: got the characters '/' in row 1 .*--pseudonymize",
        ),
        (
            ["a b,P,i,r"],
            "nodule,patient,image,readers",
            "`nodule` cannot be used as an id: got the characters ' '",
        ),
        ([".a,P,i,r"], "nodule,patient,image,readers", "`nodule` cannot be used as an id"),
        (["a.,P,i,r"], "nodule,patient,image,readers", "`nodule` cannot be used as an id"),
        (
            ["n" * 101 + ",P,i,r"],
            "nodule,patient,image,readers",
            "cannot be used as an id: got 101",
        ),
        (
            ["a,DOE^JANE,i,r"],
            "nodule,patient,image,readers",
            r"`patient` .* the characters '\^' in",
        ),
        (["a,Grün,i,r"], "nodule,patient,image,readers", "`patient` .* the characters 'ü' in"),
        (["a,P.,i,r"], "nodule,patient,image,readers", "`patient` cannot be used as an id"),
        (
            ["a,P,i,r", "A,P,i,r"],
            "nodule,patient,image,readers",
            "nodule names come twice: got the same name in rows 1 and 2",
        ),
        (["a,P,i,r", "b,P,i"], "nodule,patient,image,readers", "got line 3 with too few cells"),
        (["a,P,i,r,x"], "nodule,patient,image,readers", "got line 2 with too many cells"),
        (["a,,i,r"], "nodule,patient,image,readers", "got nothing in patient on line 2"),
        (
            ["a,P,i,r,0"],
            "nodule,patient,image,readers,n_readers",
            "n_readers of a is no number of readers: got 0,",
        ),
        (
            ["a,P,i,r,four"],
            "nodule,patient,image,readers,n_readers",
            "n_readers of a is no number of readers",
        ),
        (
            ["a,P,i,r;s,3"],
            "nodule,patient,image,readers,n_readers",
            "contradicts its files: got 3 readers, 2 masks",
        ),
        (['a,P,i,"r'], "nodule,patient,image,readers", "this is no CSV table"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_whole(
    tmp_path: Path, lines: list[str], header: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        inventory(write_table(tmp_path, *lines, header=header))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    header_only = tmp_path / "h.csv"
    header_only.write_text("nodule,patient,image,readers\n")
    with pytest.raises(InputError, match="the table is empty"):
        inventory(header_only)
    (tmp_path / "e.csv").write_bytes(b"")
    with pytest.raises(InputError, match=r"lacks the columns .*got no header line"):
        inventory(tmp_path / "e.csv")
    with pytest.raises(InputError, match="there is no such table"):
        inventory(tmp_path)
    write(tmp_path / "ct.nii.gz", image_hu())
    with pytest.raises(InputError, match="this is no CSV table"):
        inventory(tmp_path / "ct.nii.gz")


def test_a_table_saved_by_a_spreadsheet_is_read(table: Path) -> None:
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert [n.id for n in inventory(table).nodules] == ["n-1"]


# -- what is refused of one nodule


def spoil_shape(folder: Path) -> None:
    write(folder / "readers.nii.gz", codes()[:-1], origin=(-30.0, 12.5, 112.0))


def spoil_origin(folder: Path) -> None:
    write(folder / "readers.nii.gz", codes(), origin=(-30.06, 12.5, 100.0))


def spoil_spacing(folder: Path) -> None:
    write(folder / "readers.nii.gz", codes(), spacing=(0.5, 0.625, 2.1))


def half_marked(folder: Path) -> None:
    write(folder / "readers.nii.gz", codes() * np.float32(0.5))


def negative(folder: Path) -> None:
    write(folder / "readers.nii.gz", -codes().astype(np.int16))


def third_reader_empty(folder: Path) -> None:
    write(folder / "readers.nii.gz", codes() & 0b1011)


def nothing_marked(folder: Path) -> None:
    write(folder / "readers.nii.gz", codes() * 0)


def seventeen_readers(folder: Path) -> None:
    write(folder / "readers.nii.gz", codes().astype(np.int32) << 13)


def no_image(folder: Path) -> None:
    (folder / "ct.nii.gz").unlink()


def no_mask(folder: Path) -> None:
    (folder / "readers.nii.gz").unlink()


def cut_image(folder: Path) -> None:
    content = (folder / "ct.nii.gz").read_bytes()
    (folder / "ct.nii.gz").write_bytes(content[: len(content) // 2])


def text_image(folder: Path) -> None:
    (folder / "ct.nii.gz").write_text("no volume")


def image_4d(folder: Path) -> None:
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((3, *SHAPE), np.int16), isVector=False),
        str(folder / "ct.nii.gz"),
    )


def image_2d(folder: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4), np.int16)), str(folder / "ct.nii.gz"))


def colour_image(folder: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((*SHAPE, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(folder / "ct.nii.gz"))


def nan_image(folder: Path) -> None:
    image = image_hu().astype(np.float32)
    image[0, 0, :2] = np.nan, np.inf
    write(folder / "ct.nii.gz", image)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_shape, r"a mask reaches beyond the CT: got 13 marked voxels outside of it in "),
        (
            spoil_origin,
            r"has another geometry than the CT: got corners up to 0\.060 mm apart, "
            r"expected at most 0\.05 mm",
        ),
        (spoil_spacing, r"has another geometry than the CT: got corners up to 0\.800 mm apart"),
        (half_marked, r"other values than whole numbers from 0: got 0\.0\.\.7\.5"),
        (negative, r"other values than whole numbers from 0: got -15\.\.0"),
        (
            third_reader_empty,
            r"mask is empty: got no voxel of reader 2 in the file of column `readers`",
        ),
        (nothing_marked, r"mask is empty: got no voxel of reader 0"),
        (seventeen_readers, r"more readers than it may: got bit 16 set .*expected bits 0 to 15"),
        (no_image, r"the CT is not there: got the file of column `image`"),
        (no_mask, r"a readers' mask is not there: got the file of column `readers`"),
        (cut_image, r"the CT cannot be read: got the file of column `image`"),
        (text_image, r"the CT cannot be read: got the file of column `image`"),
        (image_4d, r"the CT is not one volume of plain numbers: got .*size \(6, 7, 9, 3\)"),
        (image_2d, r"the CT is not one volume of plain numbers: got .*size \(4, 4\)"),
        (colour_image, r"the CT is not one volume of plain numbers: .*3 value\(s\) a voxel"),
        (nan_image, r"the CT holds voxels that are no numbers: got 2 of 378 NaN or infinite"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_unfit_files_refuse_their_nodule(table: Path, spoil: Any, message: str) -> None:
    assert read(table)
    spoil(table.parent)
    with pytest.raises(InputError, match=message):
        read(table)


def test_a_mask_within_the_tolerance_is_taken(table: Path) -> None:
    write(table.parent / "readers.nii.gz", codes(), origin=(-30.04, 12.5, 100.0))
    assert read(table).patch.grid.origin_lps_mm[0] == -30


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".nrrd", "f4"), (".nii", "f4"), (".nii", "f8"), (".nii.gz", "f8")]
)
def test_voxels_that_are_no_numbers_are_found_in_every_format(
    table: Path, suffix: str, kind: str
) -> None:
    image = image_hu().astype(kind)
    write(table.parent / f"float{suffix}", image)
    write_table(table.parent, f"n-1,P1,float{suffix},readers.nii.gz,solid")
    assert read(table)
    image[8, 6, 5] = np.nan
    write(table.parent / f"float{suffix}", image)
    with pytest.raises(InputError, match="1 of 378 NaN or infinite"):
        read(table)


@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_that_are_no_numbers_are_found_in_both_orders_of_bytes(
    table: Path, order: str
) -> None:
    affine = nibabel.load(table.parent / "ct.nii.gz").affine  # type: ignore[attr-defined]
    header = nibabel.Nifti1Header(endianness=order)  # type: ignore[attr-defined]
    header.set_data_dtype(np.float32)
    write_table(table.parent, "n-1,P1,float.nii,readers.nii.gz,solid")
    image = image_hu().astype(np.float32).T
    nibabel.save(nibabel.Nifti1Image(image, affine, header), table.parent / "float.nii")  # type: ignore[attr-defined]
    assert read(table)
    image[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(image, affine, header), table.parent / "float.nii")  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="1 of 378 NaN or infinite"):
        read(table)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("cut", [0.2, 0.7, 0.97])
def test_a_file_cut_short_is_refused_in_every_format(table: Path, suffix: str, cut: float) -> None:
    rng = np.random.default_rng(1)
    write(table.parent / f"noise{suffix}", rng.integers(-1000, 1000, SHAPE, np.int16))
    write_table(table.parent, f"n-1,P1,noise{suffix},readers.nii.gz,solid")
    assert read(table)
    file = table.parent / ("noise.raw" if suffix == ".mhd" else f"noise{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(InputError, match="the CT cannot be read: got the file of column `image`"):
        read(table)


def test_a_nifti_in_two_files_is_refused(table: Path) -> None:
    write(table.parent / "pair.hdr", image_hu())
    write_table(table.parent, "n-1,P1,pair.hdr,readers.nii.gz,solid")
    with pytest.raises(InputError, match="the CT is split over two files"):
        read(table)


def test_more_bits_than_readers_are_refused(table: Path) -> None:
    header = "nodule,patient,image,readers,n_readers"
    write_table(table.parent, "n-1,P1,ct.nii.gz,readers.nii.gz,3", header=header)
    with pytest.raises(
        InputError, match=r"more readers than it may: got bit 3 set .*expected bits 0 to 2"
    ):
        read(table, readers=3)


def test_a_label_map_is_no_reader(table: Path) -> None:
    for bit in range(4):
        write(table.parent / f"r{bit}.nii.gz", codes())
    write_table(table.parent, "n-1,P1,ct.nii.gz,r0.nii.gz;r1.nii.gz;r2.nii.gz;r3.nii.gz,solid")
    with pytest.raises(InputError, match="got values 0, 7, 15 in file 1 of column `readers`"):
        read(table)


# -- stamps and digests


def only_nodule(table: Path) -> Nodule:
    (nodule,) = inventory(table).nodules
    return nodule


def fingerprint(table: Path, padding_slices: int = 1) -> str:
    return source(table).fingerprint(only_nodule(table), padding_slices=padding_slices)


def touch(path: Path) -> None:
    there = path.stat()
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns + 1))


def test_a_stamp_changes_with_row_files_and_padding_only(table: Path) -> None:
    first = fingerprint(table)
    assert fingerprint(table) == first
    touch(table)
    assert fingerprint(table) == first
    seen = {first, fingerprint(table, padding_slices=2)}
    touch(table.parent / "ct.nii.gz")
    seen.add(fingerprint(table))
    touch(table.parent / "readers.nii.gz")
    seen.add(fingerprint(table))
    (table.parent / "ct.nii.gz").unlink()
    seen.add(fingerprint(table))
    write_table(table.parent, "n-1,P1,ct.nii.gz,readers.nii.gz,part solid")
    seen.add(fingerprint(table))
    assert len(seen) == 6


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_stamp_sees_voxels_in_a_file_of_their_own(table: Path, suffix: str) -> None:
    before = {path.name for path in table.parent.iterdir()}
    write(table.parent / f"split{suffix}", image_hu())
    (voxels,) = {path.name for path in table.parent.iterdir()} - before - {f"split{suffix}"}
    write_table(table.parent, f"n-1,P1,split{suffix},readers.nii.gz,solid")
    first = fingerprint(table)
    touch(table.parent / voxels)
    assert fingerprint(table) != first


def test_the_digest_follows_contents_not_names(table: Path) -> None:
    first = read(table).content_sha256
    shutil.move(table.parent / "ct.nii.gz", table.parent / "renamed.nii.gz")
    write_table(table.parent, "n-1,P1,renamed.nii.gz,readers.nii.gz,solid")
    assert read(table).content_sha256 == first
    write_table(table.parent, "n-1,P1,renamed.nii.gz,readers.nii.gz,part solid")
    assert read(table).content_sha256 != first
    image = image_hu()
    image[4, 4, 4] += 1
    write(table.parent / "renamed.nii.gz", image)
    write_table(table.parent, "n-1,P1,renamed.nii.gz,readers.nii.gz,solid")
    changed = read(table).content_sha256
    assert changed != first
    image[8, 4, 4] += 1
    write(table.parent / "renamed.nii.gz", image)
    assert read(table).content_sha256 == changed, "a slice that the nodule does not need"
    write(table.parent / "renamed.nii.gz", image, origin=(-30.01, 12.5, 100.0))
    assert read(table).content_sha256 != changed


# -- real nodules, where they are at hand


@pytest.mark.slow
def test_all_real_nodules_go_through(real_data: Path, tmp_path: Path) -> None:
    for name in ("nodules", "nodules.csv"):
        (tmp_path / name).symlink_to(real_data / name)
    example = (Path(storage.sources.table.__file__).parents[2] / "docs" / "sources.md").read_text()
    code = example.split("```python\n")[1].split("```")[0]
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        exec(compile(code, "docs/sources.md", "exec"), {})
    finally:
        os.chdir(here)
    source = FilesSource(tmp_path / "TABLE.csv")
    found = source.inventory(readers=4)
    facts = pd.read_csv(real_data / "nodules.csv").set_index("voi")
    assert len(found.nodules) == len(facts) == 528
    assert found.exclusions == ()
    for nodule in found.nodules:
        patch = source.read(nodule, padding_slices=3).patch
        assert patch.readers.any(axis=0).sum() == facts.union_vox[nodule.id]
        assert patch.readers.all(axis=0).sum() == facts.inter_vox[nodule.id]
        assert patch.grid.spacing_mm[0] == pytest.approx(facts.dz_mm[nodule.id], abs=1e-3)
        assert patch.image_hu.min() >= -1024


def test_voxels_in_another_file_are_part_of_the_stamp(table: Path) -> None:
    write(table.parent / "ct.mhd", image_hu())
    far = table.parent / "far"
    far.mkdir()
    (table.parent / "ct.raw").rename(far / "voxels.bin")
    header = (table.parent / "ct.mhd").read_text().replace("ct.raw", "far/voxels.bin")
    (table.parent / "ct.mhd").write_text(header)
    write_table(table.parent, "n-1,P1,ct.mhd,readers.nii.gz,solid")
    first = fingerprint(table)
    assert np.array_equal(read(table).patch.image_hu[2], image_hu()[4])
    assert fingerprint(table) == first
    time_ns = (far / "voxels.bin").stat().st_mtime_ns
    os.utime(far / "voxels.bin", ns=(time_ns, time_ns + 1))
    assert fingerprint(table) != first


@pytest.mark.parametrize(
    ("header", "lines", "files"),
    [
        ("a.mhd", "ElementDataFile = LOCAL\n", set()),
        ("a.mhd", "ElementDataFile = v.raw\n", {"v.raw"}),
        ("a.mhd", "elementdatafile=v 1.raw", {"v 1.raw"}),
        ("a.mhd", "ElementDataFile = LIST\ns1.raw\ns2.raw\n", {"s1.raw", "s2.raw"}),
        ("a.MHD", "ElementDataFile = s%02d.raw 1 3 1\n", {"s01.raw", "s02.raw"}),
        ("a.nhdr", "NRRD0004\ndata file: LIST\ns1.raw\n", {"s1.raw"}),
        ("a.nhdr", "NRRD0004\ndata file: s%d.raw 1 2 1\n", {"s1.raw", "s01.raw", "s02.raw"}),
        ("a.nrrd", "data file: s1.raw\n", set()),
        ("a.mhd", "no such field", set()),
    ],
)
def test_a_header_names_the_files_of_its_voxels(
    tmp_path: Path, header: str, lines: str, files: set[str]
) -> None:
    for name in ("s01.raw", "s02.raw", "s1.raw"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / header).write_text(lines)
    assert {path.name for path in voxel_files(tmp_path / header)} >= files
    if not files:
        assert list(voxel_files(tmp_path / header)) == []


@pytest.mark.parametrize("other", ["p1", "\N{FULLWIDTH LATIN CAPITAL LETTER P}1"])
def test_patients_that_differ_in_spelling_only_are_refused(table: Path, other: str) -> None:
    row = "ct.nii.gz,readers.nii.gz,"
    write_table(table.parent, f"n-1,P1,{row}", f"n-2,{other},{row}")
    with pytest.raises(
        InputError, match="differ by their spelling only: got those in rows 1 and 2"
    ):
        inventory(table)


def test_a_table_of_two_readers_says_what_the_recipe_needs(table: Path) -> None:
    row = "P1,ct.nii.gz,a.nii.gz;b.nii.gz,"
    write_table(table.parent, f"n-1,{row}", f"n-2,{row}")
    found = inventory(table)
    assert not found.nodules
    assert found.notes == ("2 of the table with 2 readers: set `readers: 2` in the recipe",)
    assert inventory(table, readers=2).notes == ()


def test_the_files_of_a_dicom_folder_are_part_of_the_stamp(table: Path) -> None:
    write_dicom(table.parent / "ct")
    write_table(table.parent, "n-1,P1,ct,readers.nii.gz,solid")
    first = fingerprint(table)
    assert fingerprint(table) == first
    (table.parent / "ct" / "03.dcm").unlink()
    assert fingerprint(table) != first


def test_dicom_has_its_own_scale(table: Path) -> None:
    write_dicom(table.parent / "ct")
    header = "nodule,patient,image,readers,hu_slope,hu_offset"
    write_table(table.parent, "n-1,P1,ct,readers.nii.gz,,-1024", header=header)
    with pytest.raises(InputError, match="hu_offset of n-1 cannot be used: got DICOM in"):
        read(table)


@pytest.mark.parametrize(
    ("header", "line", "readers"),
    [
        ("nodule,patient,image,readers,,", "n-1,P1,ct.nii.gz,a;b,,", "a;b"),
        ("nodule,patient,image,readers", "n-1,P1,ct.nii.gz,a;b,,", "a;b"),
        (",nodule,patient,image,readers", "0,n-1,P1,ct.nii.gz,a;b", "a;b"),
        (" Nodule , Patient,IMAGE, readers ", "n-1 , P1,ct.nii.gz, a; b", "a; b"),
        ("nodule;patient;image;readers", 'n-1;P1;ct.nii.gz;"a;b"', "a;b"),
        ("nodule\tpatient\timage\treaders", "n-1\tP1\tct.nii.gz\ta;b", "a;b"),
        ("nodule,patient,image,reader2,reader1", "n-1,P1,ct.nii.gz,b,a", "a;b"),
        ("nodule,patient,image,Reader 1,reader_2,reader3", "n-1,P1,ct.nii.gz,a,b,", "a;b"),
        ("nodule,patient,image,readers", 'n-1,P1,ct.nii.gz,"a, b"', "a;b"),
        ("nodule,patient,image,readers,n_readers", "n-1,P1,ct.nii.gz,a;b,2.0", "a;b"),
        ("nodule,patient,image,readers,N Readers", "n-1,P1,ct.nii.gz,a;b,2.00", "a;b"),
        ("nodule,patient,image,readers,n_readers", "n-1,P1,ct.nii.gz,a;b,NaN", "a;b"),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r\n|||\r\n|||\r\n"])
def test_what_spreadsheets_and_pandas_write_is_read(
    tmp_path: Path, header: str, line: str, readers: str, ending: str
) -> None:
    separator = next(mark for mark in ",;\t" if mark in header)
    ending = ending.replace("|", separator)
    (tmp_path / "table.csv").write_text(f"{header}\n{line}{ending}", newline="")
    (nodule,) = inventory(tmp_path / "table.csv", readers=2).nodules
    row = nodule.details["row"]
    assert isinstance(row, dict)
    assert (nodule.id, nodule.patient_id, row["image"]) == ("n-1", "P1", "ct.nii.gz")
    assert row["readers"] == readers
    assert row.get("n_readers", "") in ("", "2")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_spreadsheets_are_read(tmp_path: Path, encoding: str) -> None:
    text = "nodule,patient,image,readers\nn-1,P1,M\u00fcller.nii.gz,a;b\n"
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    (nodule,) = inventory(tmp_path / "table.csv", readers=2).nodules
    assert nodule.details["row"]["image"] == "M\u00fcller.nii.gz"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nodule,patient\nn-1,M\xfcller", "a character on line 2 that is not UTF-8.*CSV UTF-8"),
        (b"PK\x03\x04....", "an Excel workbook.*CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0....", "an Excel workbook"),
    ],
)
def test_other_files_of_spreadsheets_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"this is no CSV table: got .*{words}"):
        inventory(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("sub/ct.nii.gz", ".\\sub\\ct.nii.gz"),
        ("u\u0308ber.nii.gz", "\u00fcber.nii.gz"),
        ("\u00fcber.nii.gz", "u\u0308ber.nii.gz"),
        ("a b.nii.gz", "a b.nii.gz"),
    ],
)
def test_paths_of_other_systems_are_found(table: Path, stored: str, named: str) -> None:
    (table.parent / "sub").mkdir()
    expected = read(table).content_sha256
    (table.parent / "ct.nii.gz").rename(table.parent / stored)
    write_table(table.parent, f"n-1,P1,{named},readers.nii.gz,solid")
    assert read(table).content_sha256 == expected
    first = fingerprint(table)
    os.utime(table.parent / stored, ns=(1, 1))
    assert fingerprint(table) != first


def test_a_path_in_the_home_folder_is_found(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(table.parent))
    expected = read(table).content_sha256
    write_table(table.parent, "n-1,P1,~/ct.nii.gz,readers.nii.gz,solid")
    assert read(table).content_sha256 == expected


def test_a_path_with_a_drive_is_named(table: Path) -> None:
    write_table(table.parent, "n-1,P1,C:\\data\\ct.nii.gz,readers.nii.gz,solid")
    with pytest.raises(InputError, match=r"the CT is not there: .*Windows with a drive"):
        read(table)


def test_a_small_file_that_unpacks_to_much_is_read_as_far_as_its_header_says(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = []
    reading = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        piece = reading(self, size)
        read_bytes.append(len(piece))
        return piece

    path = table.parent / "ct.nii.gz"
    content = gzip.decompress(path.read_bytes())
    with gzip.open(path, "wb") as stream:
        stream.write(content)
        for _ in range(40):
            stream.write(bytes(1 << 20))
    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    assert read(table)
    assert sum(read_bytes) < 1 << 20


@pytest.mark.parametrize("dims", [(32767, 32767, 32767), (0, 5, 5), (-3, 5, 5)])
def test_a_header_of_no_possible_size_is_refused(table: Path, dims: tuple[int, ...]) -> None:
    path = table.parent / "ct.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<4h", content, 40, 3, *dims)
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match="the CT"):
        read(table)
