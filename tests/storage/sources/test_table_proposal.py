"""Tables proposed for folders in known layouts."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from matting.errors import InputError
from storage.sources.table import FilesSource
from storage.sources.table_proposal import propose_table, write_table
from tests.kinds import ct_hu, masks, write_image


def lndb(folder: Path) -> None:
    for number in (1, 2):
        write_image(folder / "data0" / f"LNDb-000{number}.mhd", ct_hu())
        for rad, mask in enumerate(masks()[:3], 1):
            finding = np.where(mask, rad + 1, 0).astype(np.uint8)
            write_image(folder / "masks" / f"LNDb-000{number}_rad{rad}.mhd", finding)
    (folder / "trainNodules_gt.csv").write_text(
        "LNDbID,RadID,RadFindingID,FindingID,x,y,z,AgrLevel,Nodule,Volume,Text\n"
        '1,"1,2,3","2,3,4",1,0,0,0,3,1,100,5\n'
        '1,"1,2","9,8",2,0,0,0,2,0,100,5\n'
        '2,"1,3","2,4",1,0,0,0,2,1,100,5\n'
        "3,1,1,1,0,0,0,1,1,100,5\n"
    )


def nnunet(folder: Path) -> None:
    write_image(folder / "imagesTr" / "lung_001_0000.nii.gz", ct_hu())
    for reader, mask in enumerate(masks()[:3], 1):
        write_image(folder / f"labelsTr_{reader}" / "lung_001.nii.gz", mask.astype(np.uint8))


def bids(folder: Path) -> None:
    write_image(folder / "sub-07" / "ses-1" / "ct" / "sub-07_ses-1_ct.nii.gz", ct_hu())
    below = folder / "derivatives" / "manual" / "sub-07"
    for reader, mask in enumerate(masks()[:3], 1):
        name = f"sub-07_ses-1_desc-rater{reader}_mask.nii.gz"
        write_image(below / name, mask.astype(np.uint8))


def slicer(folder: Path) -> None:
    write_image(folder / "case 1" / "ct.nrrd", ct_hu())
    for reader, mask in enumerate(masks()[:3], 1):
        write_image(folder / "case 1" / f"reader{reader}.seg.nrrd", mask.astype(np.uint8))


@pytest.mark.parametrize(
    ("make", "layout", "nodules"),
    [
        (lndb, "LNDb", ["LNDb-0001-1", "LNDb-0002-1"]),
        (nnunet, "nnU-Net", ["lung_001"]),
        (bids, "BIDS", ["sub-07_ses-1"]),
        (slicer, "3D Slicer", ["case-1"]),
    ],
)
def test_a_known_layout_gives_a_table_that_can_be_read(
    tmp_path: Path, make: object, layout: str, nodules: list[str]
) -> None:
    assert callable(make)
    make(tmp_path / "set")
    table = tmp_path / "TABLE.csv"
    said = CliRunner().invoke(app, ["table", str(tmp_path / "set"), "--out", str(table)])
    assert said.exit_code == 0, said.output
    assert f"by the layout of {layout}" in said.output
    proposal = propose_table(tmp_path / "set")
    assert [row.nodule for row in proposal.rows] == nodules
    source = FilesSource(table)
    found = source.inventory(readers=3).nodules
    assert [nodule.id for nodule in found] == nodules[:1]
    patch = source.read(found[0], padding_slices=3).patch
    assert [int(m.sum()) for m in patch.readers] == [int(m.sum()) for m in masks()[:3]]
    text = table.read_text()
    assert str(tmp_path) not in text, "paths are relative to the table"


def test_labels_of_lndb_go_with_their_readers(tmp_path: Path) -> None:
    lndb(tmp_path / "set")
    write_table(propose_table(tmp_path / "set"), tmp_path / "t.csv")
    assert re.search(
        r"^LNDb-0002-1,LNDb-0002,set/data0/LNDb-0002\.mhd,"
        r"set/masks/LNDb-0002_rad1\.mhd:2;set/masks/LNDb-0002_rad3\.mhd:4,2$",
        (tmp_path / "t.csv").read_text(),
        re.MULTILINE,
    )


def test_what_is_not_used_is_said_and_nothing_is_overwritten(tmp_path: Path) -> None:
    nnunet(tmp_path / "set")
    shutil.copy(
        tmp_path / "set" / "imagesTr" / "lung_001_0000.nii.gz",
        tmp_path / "set" / "imagesTr" / "lung_002_0000.nii.gz",
    )
    proposal = propose_table(tmp_path / "set")
    assert [path.name for path in proposal.unused] == ["lung_002_0000.nii.gz"]
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(InputError, match="there is a file of that name"):
        write_table(proposal, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "mine"
    with pytest.raises(InputError, match="there is no such folder"):
        propose_table(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no known layout is recognised: got 0 volumes"):
        propose_table(tmp_path / "empty")
