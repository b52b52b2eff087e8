"""Exports, read back by other libraries."""

import hashlib
import io
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05 import Image

from flows.export import export as run_export
from matting.errors import InputError
from matting.geometry.grid import Grid
from storage.cases.case import read_case, read_case_files, write_case
from storage.errors import WriteError
from storage.exports.export import CHECKSUMS, open_export, read_own_files
from storage.records import Member
from storage.releases.index import split_table
from storage.releases.release import Draft, open_release, publish_release, withdraw_release
from tasks.export import export_nodule
from tests.cases import new_case
from tests.phantoms import ball_patch

DIGEST = "d" * 64
TURNED = ((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (-1.0, 0.0, 0.0))
"""Axes of an oblique lattice."""


MEMBER = Member("P-1", "P", "e" * 64, "lb", "ann", False, "train", True)


@pytest.fixture
def case(store):
    patch = ball_patch()
    grid = replace(patch.grid, axes_lps=TURNED, spacing_mm=(1.0, 0.7, 0.6))
    write_case(store, new_case(patch=replace(patch, grid=grid), synthetic=True))
    member = Member("P-1", "P", DIGEST, "lb", "ann", False, "train", True)
    own = {"README.md": b"# card\n", "splits.csv": split_table((member,))}
    publish_release(
        store,
        "0.1.0",
        Draft((member,), (), read_case_files(store, "P-1", DIGEST), own, {}),
        publisher="ann",
    )
    return read_case(store, "P-1", DIGEST)


def export(store, tmp_path, format_):
    """As the command does, by the library's parts."""
    run_export(store.url, "0.1.0", format_, tmp_path / format_)
    return tmp_path / format_ / "P-1"


def corners(grid: Grid):
    return np.array(
        [[k, j, i] for k in (0, grid.shape[0] - 1) for j in (0, grid.shape[1] - 1) for i in (0, 5)]
    )


def test_nifti_is_read_by_nibabel_and_itk_with_equal_voxels_in_equal_places(store, case, tmp_path):
    folder = export(store, tmp_path, "nifti")
    expected = {
        "image": case.array("image"),
        "alpha": case.alpha("lb"),
        "trimap": case.array("labels/trimap/0"),
        "validity": case.array("validity"),
        "known_alpha": case.array("known_alpha"),
        **{f"reader-{n + 1}": mask for n, mask in enumerate(case.array("labels/readers/0"))},
    }
    assert {path.name for path in folder.glob("*.nii.gz")} == {
        f"{name}.nii.gz" for name in expected
    }
    here = corners(case.grid)
    for name, values in expected.items():
        image = nib.load(folder / f"{name}.nii.gz")
        assert (folder / f"{name}.nii.gz").read_bytes()[4:8] == bytes(4), (
            "a time of writing would change the sums"
        )
        assert image.get_data_dtype() == values.dtype
        assert (np.asarray(image.dataobj).transpose() == values).all()
        assert image.header["descrip"].item().startswith(b"synthetic data")
        ras = nib.affines.apply_affine(image.affine, here[:, ::-1])
        assert np.abs(ras * [-1, -1, 1] - case.grid.to_patient(here)).max() < 1e-4
        assert np.abs(image.get_qform() - image.get_sform()).max() < 1e-4
        other = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
        assert (sitk.GetArrayFromImage(other) == values).all()
        lps = [
            other.TransformContinuousIndexToPhysicalPoint([float(n) for n in index[::-1]])
            for index in here
        ]
        assert np.abs(np.array(lps) - case.grid.to_patient(here)).max() < 1e-4


def test_npz_is_read_without_pickle_and_places_its_voxels(store, case, tmp_path):
    with np.load(export(store, tmp_path, "npz") / "nodule.npz", allow_pickle=False) as nodule:
        assert (nodule["matte"] == case.alpha("lb")).all()
        assert (nodule["image"] == case.array("image")).all()
        assert (nodule["readers"] == case.array("labels/readers/0")).all()
        assert (
            nodule["alpha"][list(nodule["methods"]).index(str(nodule["method"]))] == nodule["matte"]
        ).all()
        assert "synthetic" in str(nodule["note"])
        here = corners(case.grid)
        there = nodule["origin_lps_mm"] + (here * nodule["spacing_mm"]) @ nodule["axes_lps"]
        assert np.abs(there - case.grid.to_patient(here)).max() < 1e-9


def test_zarr_is_the_case_with_the_matte_and_other_readers_open_it(store, case, tmp_path):
    folder = export(store, tmp_path, "zarr")
    nodule = zarr.open_group(folder, mode="r")
    assert (nodule["matte"][:] == case.alpha("lb")).all()
    assert (nodule["image"][:] == case.array("image")).all()
    assert (nodule["labels/readers/0"][:] == case.array("labels/readers/0")).all()
    assert nodule["matte"].chunks == case.grid.shape
    assert nodule.attrs["halosign_release"]["method"] == "lb"
    assert "synthetic" in nodule.attrs["halosign_release"]["note"]
    scales = {one.name: one for one in Image.from_zarr(nodule).ome_attributes.multiscales}
    assert scales["matte"].datasets[0].coordinateTransformations[0].scale == list(
        case.grid.spacing_mm
    )
    assert next(iter(Reader(parse_url(str(folder)))())).data[0].shape == case.grid.shape


@pytest.mark.parametrize("format_", ["zarr", "nifti", "npz", "nnunet"])
def test_the_sums_are_those_of_sha256sum_and_cover_every_file(store, case, tmp_path, format_):
    folder = export(store, tmp_path, format_).parent
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet", CHECKSUMS], cwd=folder, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    listed = {line.split("  ", 1)[1] for line in (folder / CHECKSUMS).read_text().splitlines()}
    assert listed == {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
    } - {CHECKSUMS}
    assert {"README.md", "splits.csv", "manifest.json", "FORMAT.md", "export.json"} <= listed
    assert "Synthetic data" in (folder / "FORMAT.md").read_text()


@pytest.mark.parametrize("format_", ["zarr", "nifti", "npz"])
def test_an_export_continues_where_it_was_and_repairs_what_is_wrong(store, case, tmp_path, format_):
    folder = export(store, tmp_path, format_).parent
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
    damaged = max(
        (path for path in before if path.parent.name == "P-1"), key=lambda path: path.stat().st_size
    )
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    (folder / CHECKSUMS).unlink()
    (folder / "P-1" / ".part-00c0ffee-image").write_bytes(b"half")
    export(store, tmp_path, format_)
    after = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert {path: data for path, (_, data) in after.items()} == {
        path: data for path, (_, data) in before.items()
    }
    assert {path for path in after if after[path][0] != before[path][0]} == {
        damaged,
        folder / CHECKSUMS,
    }


def test_of_many_damaged_files_three_are_named(store, case, tmp_path):
    keys = sorted(key for key in store.list_prefix(f"cases/P-1/{DIGEST}"))[:5]
    for key in keys:
        store.put(key, store.get(key) + b"x")
    with pytest.raises(InputError, match="damaged release is not exported") as refused:
        export(store, tmp_path, "npz")
    assert [key for key in keys if key in str(refused.value.got)] == keys[:3]
    assert str(refused.value.got).endswith(" and 2 more")


def test_a_withdrawn_or_damaged_release_is_not_exported(store, case, tmp_path):
    key = f"cases/P-1/{DIGEST}/image/c/0/0/0"
    good = store.get(key)
    store.put(key, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match=f"damaged release is not exported: got {key}"):
        export(store, tmp_path, "npz")
    store.put(key, good)
    withdraw_release(store, "0.1.0", "mislabelled", by="ann")
    with pytest.raises(
        InputError, match=r"withdrawn release is not exported: got .* by ann: mislabelled"
    ):
        export(store, tmp_path, "npz")
    assert not (tmp_path / "npz").exists()


def test_an_unknown_format_is_refused(store, case, tmp_path):
    with pytest.raises(
        InputError,
        match="no such format: got pickle, expected zarr or nifti or npz or dicom-seg or nnunet",
    ):
        export(store, tmp_path, "pickle")


def test_a_segmentation_of_a_tables_nodule_is_refused_before_anything_is_written(
    store, case, tmp_path
):
    write_case(store, new_case(digest="e" * 64, synthetic=True))
    draft = Draft((MEMBER,), (), read_case_files(store, "P-1", "e" * 64), {}, {})
    publish_release(store, "0.2.0", draft, publisher="ann")
    with pytest.raises(
        InputError, match=r"none of the nodules has a DICOM series .*: got P-1, from a table"
    ):
        open_export(store, "0.2.0", "dicom-seg", tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_contains_something_else_is_left_alone(store, case, tmp_path):
    (tmp_path / "npz").mkdir()
    (tmp_path / "npz" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"contains something else: got .*npz with thesis\.tex"):
        export(store, tmp_path, "npz")
    assert [path.name for path in (tmp_path / "npz").iterdir()] == ["thesis.tex"]
    (tmp_path / "zarr").write_text("a file")
    with pytest.raises(InputError, match="this is not a folder"):
        export(store, tmp_path, "zarr")


def test_another_format_needs_another_folder(store, case, tmp_path):
    export(store, tmp_path, "nifti").parent.rename(tmp_path / "npz")
    with pytest.raises(
        InputError, match=r"contains something else: got .*npz with release 0\.1\.0 as nifti"
    ):
        export(store, tmp_path, "npz")


def test_a_kill_leaves_whole_files_only(store, case, tmp_path, monkeypatch):
    folder = open_export(store, "0.1.0", "npz", tmp_path / "npz")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(WriteError, match=r"nodule\.npz cannot be written: .*No space left"):
        export_nodule(folder, "P-1")
    assert not (tmp_path / "npz/P-1/nodule.npz").exists()
    monkeypatch.undo()
    name, sum_ = next(iter(export_nodule(folder, "P-1").items()))
    assert hashlib.sha256((tmp_path / "npz" / name).read_bytes()).hexdigest() == sum_
    assert (
        np.load(io.BytesIO((tmp_path / "npz" / name).read_bytes()))["image"].shape
        == case.grid.shape
    )


def test_the_page_shows_how_to_read_each_format(store, case, tmp_path):
    for format_, made in (("zarr", "P-1"), ("nifti", "P-1"), ("npz", "P-1")):
        nodule = export(store, tmp_path, format_)
        page = read_own_files(open_export(store, "0.1.0", format_, nodule.parent))[
            "FORMAT.md"
        ].decode()
        code = "\n".join(line.strip() for line in page.splitlines() if line.startswith("    "))
        exec(compile(code.replace("NODULE", str(nodule.parent / made)), "page", "exec"), {})


@pytest.fixture
def three(store):
    """Release 0.1.0 with a nodule in each split: A, B and C, of release order C, A, B."""
    splits = {"C": "test", "A": "train", "B": "validation"}
    for name in splits:
        write_case(store, new_case(nodule=name, patient=name, synthetic=True))
    members = tuple(
        Member(name, name, DIGEST, "lb", "ann", False, split, True)
        for name, split in splits.items()
    )
    files = {}
    for name in splits:
        files |= read_case_files(store, name, DIGEST)
    own = {"splits.csv": split_table(members)}
    publish_release(store, "0.1.0", Draft(members, (), files, own, {}), publisher="ann")
    return store


def check_as_nnunet_does(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Check a data set by the rules of nnU-Net v2's `verify_dataset_integrity`; give its cases."""
    about = json.loads((folder / "dataset.json").read_text())
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= set(about)
    assert "dataset" not in about  # would make nnU-Net look for the files elsewhere
    assert list(about["labels"].values()) == list(range(len(about["labels"])))
    assert about["labels"]["background"] == 0
    ending = about["file_ending"]
    images = sorted((folder / "imagesTr").iterdir())
    channel = re.compile(r"(.+)_(\d{4})" + re.escape(ending))
    found = [channel.fullmatch(path.name) for path in images]
    assert all(found)
    assert {match[2] for match in found} == {f"{int(n):04d}" for n in about["channel_names"]}
    cases = {
        match[1]: (path, folder / "labelsTr" / f"{match[1]}{ending}")
        for match, path in zip(found, images, strict=True)
    }
    assert len(cases) == about["numTraining"]
    for image_path, label_path in cases.values():
        image, label = sitk.ReadImage(str(image_path)), sitk.ReadImage(str(label_path))
        assert set(np.unique(sitk.GetArrayFromImage(label))) <= set(about["labels"].values())
        assert np.issubdtype(sitk.GetArrayFromImage(label).dtype, np.integer)
        assert np.isfinite(sitk.GetArrayFromImage(image)).all()
        for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(image, place)(), getattr(label, place)())
    return cases


def test_a_folder_for_nnunet_passes_its_checks_and_holds_what_it_says(three, tmp_path):
    folder = export(three, tmp_path, "nnunet").parent
    assert set(check_as_nnunet_does(folder)) == {"A", "B"}
    case = read_case(three, "A", DIGEST)
    votes = case.array("labels/readers/0").sum(axis=0)
    assert {1, 2, 3} <= set(np.unique(votes))  # of four readers: fewer, just as many, more
    for part, name in (("Tr", "A"), ("Ts", "C")):
        read = {
            kind: np.asarray(nib.load(folder / f"{kind}{part}" / file).dataobj).transpose()
            for kind, file in (
                ("images", f"{name}_0000.nii.gz"),
                ("labels", f"{name}.nii.gz"),
                ("soft", f"{name}.nii.gz"),
            )
        }
        assert (read["images"] == case.array("image")).all()
        assert (read["labels"] == (votes >= 2)).all()
        assert (read["soft"] == case.alpha("lb")).all()
    assert {path.name for path in (folder / "labelsTs").iterdir()} == {"C.nii.gz"}
    fold = json.loads((folder / "splits_final.json").read_text())
    assert fold == [{"train": ["A"], "val": ["B"]}]
    about = json.loads((folder / "dataset.json").read_text())
    assert about["channel_names"] == {"0": "CT"}
    assert about["description"].startswith("Synthetic data")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of nnU-Net's own
def test_nnunets_own_check_accepts_the_folder_and_refuses_another(three, tmp_path):
    nnunet = pytest.importorskip(
        "nnunetv2.experiment_planning.verify_dataset_integrity", reason="nnunetv2 is not installed"
    )
    folder = export(three, tmp_path, "nnunet").parent
    nnunet.verify_dataset_integrity(str(folder), num_processes=1)
    (folder / "labelsTr" / "A.nii.gz").unlink()
    with pytest.raises(AssertionError):
        nnunet.verify_dataset_integrity(str(folder), num_processes=1)


@pytest.mark.parametrize("format_", ["zarr", "nifti", "npz", "nnunet"])
@pytest.mark.parametrize(
    ("chosen", "held"),
    [
        ({"splits": ["validation", "test"]}, {"B", "C"}),
        ({"nodules": ["C", "A"]}, {"A", "C"}),
        ({"splits": ["train"], "nodules": ["A"]}, {"A"}),
    ],
)
def test_a_selection_exports_its_nodules_only(three, tmp_path, format_, chosen, held):
    folder = tmp_path / "part"
    run_export(three.url, "0.1.0", format_, folder, **chosen)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    assert {
        name for name in "ABC" if any(re.search(rf"/{name}[._/]", f"/{f}/") for f in files)
    } == held
    assert f"{len(held)} of its 3 nodules" in (folder / "FORMAT.md").read_text()
    if format_ == "nnunet":
        about = json.loads((folder / "dataset.json").read_text())
        assert about["numTraining"] == len(held - {"C"})
        assert not (folder / "splits_final.json").exists()
    if format_ == "zarr":
        assert set(open_release(str(folder)).members) == held


def test_the_folder_of_another_selection_is_refused_and_left_alone(three, tmp_path):
    folder = tmp_path / "part"
    run_export(three.url, "0.1.0", "npz", folder, nodules=["A", "B"])
    (folder / CHECKSUMS).unlink()  # as if it had been interrupted
    run_export(three.url, "0.1.0", "npz", folder, nodules=["B", "A", "A"])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for other in ({}, {"nodules": ["A"]}, {"splits": ["train"]}):
        with pytest.raises(
            InputError, match=r"something else: got .* 0\.1\.0 as npz \(nodules A, B\)"
        ):
            run_export(three.url, "0.1.0", "npz", folder, **other)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"splits": ["tset"]}, "no such split: got tset, expected test or train or validation"),
        ({"nodules": ["A", "D"]}, r"release 0\.1\.0 has no such nodule: got D"),
        (
            {"splits": ["train", "test"], "nodules": ["B"]},
            "not in the selected split: got B, which is in validation, expected test or train",
        ),
    ],
)
def test_a_selection_of_what_is_not_there_is_refused(three, tmp_path, chosen, words):
    with pytest.raises(InputError, match=words):
        run_export(three.url, "0.1.0", "npz", tmp_path / "part", **chosen)
    assert not (tmp_path / "part").exists()
