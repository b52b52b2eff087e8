import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05 import Image
from ome_zarr_models.v05.image_label import ImageLabel

import storage.cases.case
from storage.cases.case import (
    case_digest,
    find_incomplete,
    is_done,
    read_case,
    read_case_files,
    verify_files,
    write_case,
)
from storage.errors import CorruptionError, NotFoundError, WriteError
from storage.folder import Disk
from storage.layout import ALPHA_STEP, is_safe_name, round_alpha
from storage.recipe import Recipe
from storage.records import DoneMark, encode, read_record
from tests.cases import METHODS, new_case
from tests.phantoms import ball_patch


def test_what_is_written_is_read(store):
    case = new_case()
    size = write_case(store, case)
    read = read_case(store, "P-1", case.facts.digest)
    assert (read.array("image") == case.patch.image_hu).all()
    assert (read.array("validity") == case.patch.valid).all()
    assert (read.array("labels/readers/0") == case.patch.readers).all()
    assert (read.array("labels/trimap/0") == case.trimap).all()
    for name in METHODS:
        assert np.abs(read.alpha(name) - case.alphas[name]).max() <= ALPHA_STEP / 2
    assert read.grid == case.patch.grid
    assert read.methods == METHODS
    assert read.facts.patient == "P"
    files = read_case_files(store, "P-1", case.facts.digest)
    assert size == sum(entry.size_bytes for entry in files.values())


def test_types_and_chunks_are_those_of_the_map(store):
    write_case(store, new_case())
    group = zarr.open_group(f"{store.url}/cases/P-1/{'d' * 64}", mode="r")
    shape = ball_patch().grid.shape
    expected = {
        "image": ("int16", shape, shape),
        "alpha": ("float32", (8, *shape), (1, *shape)),
        "validity": ("uint8", shape, shape),
        "labels/readers/0": ("uint8", (4, *shape), (1, *shape)),
        "labels/trimap/0": ("uint8", shape, shape),
        "known_alpha": ("float32", shape, shape),
    }
    for name, (dtype, size, chunks) in expected.items():
        assert (str(group[name].dtype), group[name].shape, group[name].chunks) == (
            dtype,
            size,
            chunks,
        )


def test_a_method_without_matte_leaves_nothing_that_looks_like_one(store):
    case = new_case()
    write_case(store, new_case(alphas={**case.alphas, "if": None}))
    read = read_case(store, "P-1", case.facts.digest)
    assert np.isnan(read.alpha("if")).all()
    assert np.isfinite(read.alpha("lb")).all()


def test_the_same_case_gives_the_same_bytes(store):
    write_case(store, new_case())
    first = {key: store.get(key) for key in store.list_prefix("cases")}
    store.delete([key for key in first if key.endswith(".done")])
    write_case(store, new_case())
    assert {key: store.get(key) for key in store.list_prefix("cases")} == first


def test_a_case_that_is_done_is_not_written_again(store, monkeypatch):
    written = write_case(store, new_case())
    monkeypatch.setattr(store, "put", lambda *_: pytest.fail("written twice"))
    monkeypatch.setattr(store, "create", lambda *_: pytest.fail("marked twice"))
    assert write_case(store, new_case()) == written


def test_other_bytes_under_one_digest_are_damage(store, monkeypatch):
    case = new_case()
    write_case(store, case)
    # two workers at the same moment
    monkeypatch.setattr(storage.cases.case, "find_incomplete", lambda *_: "missing")
    before = {key: store.get(key) for key in store.list_prefix("cases")}
    other = new_case(alphas=dict.fromkeys(case.alphas))
    with pytest.raises(CorruptionError, match="lists other bytes than were computed"):
        write_case(store, other)
    assert {key: store.get(key) for key in store.list_prefix("cases")} == before


def test_a_case_without_its_mark_is_not_there(store):
    case = new_case()
    write_case(store, case)
    store.delete([f"cases/P-1/{case.facts.digest}.done"])
    assert not is_done(store, "P-1", case.facts.digest)
    with pytest.raises(NotFoundError, match="has no finished case P-1/ddd"):
        read_case(store, "P-1", case.facts.digest)


def test_a_write_that_fails_midway_leaves_no_case_and_can_be_repeated(store, monkeypatch):
    case, write, written = new_case(), Disk.write, []

    def failing(disk, path, data):
        written.append(path.name)
        if len(written) == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(disk, path, data)

    monkeypatch.setattr(Disk, "write", failing)
    with pytest.raises(WriteError, match=r"cannot be written: No space left on device\. Make room"):
        write_case(store, case)
    assert [path for path in Path(store.url, "cases").rglob("*") if path.is_file()] == []
    write_case(store, case)
    assert written[-1].startswith(f"{case.facts.digest}.done#")
    assert verify_files(store, read_case_files(store, "P-1", case.facts.digest)) == []


def cut(store, key):
    store.put(key, store.get(key)[:-1])


def remove(store, key):
    store.delete([key])


def spoil_mark(store, _):
    store.put(f"cases/P-1/{'d' * 64}.done", b"[]")


def foreign_mark(store, _):
    key = f"cases/P-1/{'d' * 64}.done"
    store.put(key, encode(replace(read_record(store, key, DoneMark), digest="e" * 64)))


@pytest.mark.parametrize("damage", [cut, remove, spoil_mark, foreign_mark])
def test_a_case_that_is_incomplete_is_noticed_and_written_again(store, damage):
    write_case(store, new_case())
    before = {key: store.get(key) for key in store.list_prefix("cases")}
    assert find_incomplete(store, "P-1", "d" * 64) == ""
    damage(store, f"cases/P-1/{'d' * 64}/image/c/0/0/0")
    wrong = find_incomplete(store, "P-1", "d" * 64)
    assert "the mark of its case is damaged" in wrong or (
        f"1 of {len(before) - 1} files, first cases/P-1/{'d' * 64}/image/c/0/0/0" in wrong
    )
    write_case(store, new_case())
    assert {key: store.get(key) for key in store.list_prefix("cases")} == before


def test_every_kind_of_damage_is_named(store):
    case = new_case()
    write_case(store, case)
    files = read_case_files(store, "P-1", case.facts.digest)
    assert len(files) > 20
    for key in files:
        good = store.get(key)
        store.put(key, good[:-1] + bytes([good[-1] ^ 1]))
        assert verify_files(store, files) == [f"{key}: the content is not what was written"]
        store.put(key, good[:-1])
        assert verify_files(store, files) == [
            f"{key}: {len(good) - 1} bytes, {len(good)} were written"
        ]
        store.delete([key])
        assert verify_files(store, files) == [f"{key}: missing"]
        store.put(key, good)


def test_a_broken_mark_is_damage(store):
    case = new_case()
    write_case(store, case)
    store.put(f"cases/P-1/{case.facts.digest}.done", b"[]")
    with pytest.raises(CorruptionError, match="is not the mark of a finished case"):
        read_case_files(store, "P-1", case.facts.digest)


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_case_without_metadata_is_damage(store, content):
    case = new_case()
    write_case(store, case)
    key = f"cases/P-1/{case.facts.digest}/zarr.json"
    store.delete([key])
    if content:
        store.put(key, content)
    with pytest.raises(CorruptionError, match=r"zarr\.json is missing or damaged"):
        read_case(store, "P-1", case.facts.digest)


def test_the_digest_depends_on_source_and_recipe():
    assert case_digest("a", Recipe()) == case_digest("a", Recipe(name="other"))
    assert case_digest("a", Recipe()) != case_digest("b", Recipe())
    assert case_digest("a", Recipe()) != case_digest("a", Recipe(readers=3))


def test_a_case_is_ome_zarr_to_independent_readers(store):
    case = new_case()
    write_case(store, case)
    folder = f"{store.url}/cases/P-1/{case.facts.digest}"
    image = Image.from_zarr(zarr.open_group(folder, mode="r"))
    assert [m.name for m in image.ome_attributes.multiscales] == ["image", "alpha"]
    label = ImageLabel.from_zarr(zarr.open_group(f"{folder}/labels/trimap", mode="r"))
    assert label.ome_attributes.multiscales[0].datasets[0].path == "0"
    nodes = list(Reader(parse_url(folder))())
    assert (np.asarray(nodes[0].data[0]) == case.patch.image_hu).all()
    scale, translation = nodes[0].metadata["coordinateTransformations"][0]
    assert scale["scale"] == list(case.patch.grid.spacing_mm)
    assert translation["translation"] == list(case.patch.grid.origin_lps_mm[::-1])


def test_rounding_is_exact_in_float32():
    values = np.array([0.0, 1 / 3, 0.999999, 1.0])
    rounded = round_alpha(values)
    assert (rounded == (rounded.astype(np.float64) / ALPHA_STEP).round() * ALPHA_STEP).all()
    assert rounded[[0, 3]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("LIDC-IDRI-0078-a0123", True),
        ("0.1.0", True),
        ("../x", False),
        ("a/b", False),
        ("", False),
        (".x", False),
        ("a\n", False),
    ],
)
def test_names_that_may_stand_in_a_path(name, safe):
    assert is_safe_name(name) is safe
