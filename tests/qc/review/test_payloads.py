import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from matting.geometry.grid import Grid
from qc.review.payloads import UNMEASURED_HU, CasePayloads, pack_ct, pack_overlays, read_overlays
from storage.cases.case import read_case, write_case
from tests.cases import new_case
from tests.phantoms import ball_patch
from tests.reviewable import METHODS, add_nodule

FLIPPED = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))


def unpack(packed):
    data = gzip.decompress(packed)
    length = int.from_bytes(data[:4], "little")
    assert (4 + length) % 8 == 0
    header = json.loads(data[4 : 4 + length])
    arrays = {}
    for entry in header["arrays"]:
        assert entry["offset"] % 8 == 0
        size = int(np.prod(entry["shape"]))
        values = np.frombuffer(data, entry["type"], size, 4 + length + entry["offset"])
        arrays[entry["name"]] = values.reshape(entry["shape"])
    return header, arrays


@pytest.fixture
def case(store):
    return read_case(store, "P-1-a1", add_nodule(store, "P-1-a1"))


def test_the_scan_keeps_its_hu(case):
    header, arrays = unpack(pack_ct(case))
    np.testing.assert_array_equal(arrays["ct"], case.array("image"))
    assert header["spacing_mm"] == [1.0, 0.7, 0.7]


def test_what_was_not_measured_is_told_from_air(store):
    patch = ball_patch()
    patch.valid[:, :3] = False
    alphas = {"cf": patch.known_alpha.astype(np.float64)}
    trimap = np.zeros(patch.grid.shape, np.uint8)
    write_case(store, new_case("d", nodule="P-1-a1", patch=patch, trimap=trimap, alphas=alphas))
    ct = unpack(pack_ct(read_case(store, "P-1-a1", "d")))[1]["ct"]
    assert (ct[:, :3] == UNMEASURED_HU).all()
    assert (ct[:, 3:] > UNMEASURED_HU).all()


def test_everything_is_turned_upright(store):
    patch = ball_patch()
    grid = Grid(patch.grid.shape, patch.grid.spacing_mm, patch.grid.origin_lps_mm, FLIPPED)
    turned = type(patch)(grid, patch.image_hu, patch.valid, patch.readers, patch.known_alpha)
    turned.readers[:, 0, 0, 0] = True
    alphas = {"cf": patch.known_alpha.astype(np.float64)}
    trimap = np.zeros(grid.shape, np.uint8)
    write_case(store, new_case("d", nodule="P-1-a1", patch=turned, trimap=trimap, alphas=alphas))
    case = read_case(store, "P-1-a1", "d")
    np.testing.assert_array_equal(
        unpack(pack_ct(case))[1]["ct"], case.array("image")[::-1, :, ::-1]
    )
    overlays = read_overlays(case)
    assert overlays.readers[:, -1, 0, -1].all()
    assert not overlays.readers[:, 0, 0, 0].any()


def test_the_box_holds_all_that_is_marked_in_the_order_asked_for(case):
    header, arrays = unpack(pack_overlays(read_overlays(case), ("knn", "cf"), "", with_marks=True))
    whole = np.zeros(case.grid.shape)
    z, y, x = header["start"]
    _, depth, height, width = arrays["options"].shape
    box = (slice(z, z + depth), slice(y, y + height), slice(x, x + width))
    for place, method in enumerate(("knn", "cf")):
        whole[:] = 0
        whole[box] = arrays["options"][place] / 255
        np.testing.assert_allclose(whole, case.alpha(method), atol=0.5 / 255 + 1e-6)
    readers = case.array("labels/readers/0")
    for reader in range(4):
        whole[:] = 0
        whole[box] = (arrays["readers"] >> reader) & 1
        np.testing.assert_array_equal(whole, readers[reader])
    assert (arrays["trimap"] == case.array("labels/trimap/0")[box]).all()
    assert min(depth, height, width) < 24


def test_the_first_look_goes_to_what_most_readers_marked(store):
    patch = ball_patch()
    readers = patch.readers.copy()
    readers[0, :, -2:, -2:] = True  # one reader marked a corner too
    case = new_case("1" * 64, nodule="P-9-a9", patch=replace(patch, readers=readers))
    write_case(store, case)
    overlays = read_overlays(read_case(store, "P-9-a9", "1" * 64))
    agreed = np.argwhere(patch.readers.all(axis=0))
    np.testing.assert_allclose(overlays.middle, agreed.mean(axis=0), atol=0.05 + 1e-9)
    marked = np.argwhere(readers.any(axis=0))
    assert all(
        0 <= ours - its <= 2
        for ours, its in zip(overlays.extent, np.ptp(marked, axis=0) + 1, strict=True)
    )


def test_a_studys_masks_and_matte_look_alike_and_nothing_tells_them_apart(case):
    names = ("reader-2", "matte", "reader-1")
    header, arrays = unpack(pack_overlays(read_overlays(case), names, "lb", with_marks=False))
    assert set(arrays) == {"options"}
    assert header["readers"] == 0
    assert "lb" not in json.dumps(header)
    assert set(np.unique(arrays["options"][0])) == {0, 255}
    assert len(np.unique(arrays["options"][1])) > 10


def test_a_method_without_a_matte_shows_nothing(store):
    case = read_case(store, "P-1-a1", add_nodule(store, "P-1-a1", missing=("knn",)))
    assert not read_overlays(case).alphas["knn"].any()
    assert set(read_overlays(case).alphas) == set(METHODS)


def test_the_most_recently_used_cases_are_kept(store, monkeypatch):
    digests = {nodule: add_nodule(store, nodule) for nodule in ("P-1-a1", "P-2-a2", "P-3-a3")}
    read = []

    def counted(store, nodule_id, digest):
        read.append(nodule_id)
        return read_case(store, nodule_id, digest)

    monkeypatch.setattr("qc.review.payloads.read_case", counted)
    payloads = CasePayloads(store, max_cases=2)
    for nodule in ("P-1-a1", "P-2-a2", "P-1-a1", "P-3-a3", "P-1-a1", "P-2-a2"):
        packed = payloads.ct(nodule, digests[nodule])
        assert packed == pack_ct(read_case(store, nodule, digests[nodule]))
    assert read == ["P-1-a1", "P-2-a2", "P-3-a3", "P-2-a2"]


def test_the_bytes_do_not_depend_on_the_time(store, monkeypatch):
    digest = add_nodule(store, "P-1-a1")
    packed = []
    for now in (1e9, 2e9):
        monkeypatch.setattr("gzip.time.time", lambda now=now: now)
        packed.append(pack_ct(read_case(store, "P-1-a1", digest)))
    assert packed[0] == packed[1]
