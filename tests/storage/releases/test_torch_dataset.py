"""A release as a torch data set: right voxels, and the same crops however they are read."""

import pickle
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
import zarr
from torch.utils.data import DataLoader

from flows.export import export
from matting.errors import InputError
from matting.geometry.patch import AIR_HU
from storage.cases.case import read_case, read_case_files, write_case
from storage.errors import CorruptionError
from storage.records import Member
from storage.releases.reader import ReleaseReader
from storage.releases.release import Draft, open_release, publish_release, withdraw_release
from storage.releases.torch_dataset import ReleaseDataset
from storage.store import open_store
from tests.cases import new_case
from tests.phantoms import ball_patch
from tests.s3 import BUCKET, ENVIRONMENT, environment, moto_server

CROP = (16, 10, 12)
"""Deeper than the phantom, narrower than its rows and columns."""


@pytest.fixture
def released(store):
    """Five nodules in two splits.

    The CT numbers its voxels, and the last one's first row was not measured.
    """
    members, files = [], {}
    for n in range(5):
        patch = ball_patch()
        image = (
            np.arange(patch.image_hu.size, dtype=np.float32).reshape(patch.grid.shape) % 3000
            - 1000
            + n
        )
        valid = np.ones(patch.grid.shape, bool)
        valid[:, 0] = n != 4
        digest = str(n) * 64
        patch = replace(patch, image_hu=image, valid=valid)
        write_case(store, new_case(digest, nodule=f"P-{n}", patient=f"P{n}", patch=patch))
        split = "train" if n < 4 else "test"
        members.append(
            Member(f"P-{n}", f"P{n}", digest, "lb" if n % 2 else "cf", "ann", False, split, False)
        )
        files |= read_case_files(store, f"P-{n}", digest)
    publish_release(
        store,
        "0.1.0",
        Draft(tuple(members), (), files, {"README.md": b"# card\n"}, {}),
        publisher="ann",
    )
    return store


def draws(dataset, workers=0, context=None, **how):
    loader = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context=context, **how
    )
    return {item["nodule"]: item for item in loader}


def same(one, other):
    return one.keys() == other.keys() and all(
        (one[name][key] == other[name][key]).all()
        for name in one
        for key in ("image", "alpha", "union", "start")
    )


def test_a_crop_is_that_part_of_the_case_and_air_around_it(released):
    for seed in (None, 1, 2, 3):
        dataset = ReleaseDataset(
            open_release(released.url, "0.1.0"), "train", crop_zyx=CROP, seed=seed
        )
        for index, name in enumerate(dataset.nodules):
            item, member = dataset[index], dataset.reader.member(name)
            case = read_case(released, name, member.digest)
            readers = case.array("labels/readers/0") > 0
            expected = {
                "image": (case.array("image"), AIR_HU, torch.float32),
                "alpha": (case.alpha(member.method), 0, torch.float32),
                "overlap": (readers.all(axis=0), False, torch.bool),
                "union": (readers.any(axis=0), False, torch.bool),
                "valid": (case.array("validity") > 0, False, torch.bool),
            }
            start = item["start"].numpy()
            assert start[0] <= 0 <= start[0] + CROP[0] - case.grid.shape[0]
            assert (start[1:] >= 0).all()
            for key, (whole, beyond, dtype) in expected.items():
                padded = np.pad(whole, 40, constant_values=beyond)
                box = tuple(
                    slice(first + 40, first + 40 + n) for first, n in zip(start, CROP, strict=True)
                )
                assert item[key].dtype == dtype
                assert item[key].shape == (1, *CROP)
                assert (item[key][0].numpy() == padded[box]).all(), key


def test_crops_lie_in_the_measured_box_and_are_cut_to_it(released):
    """Of P-4 the first row was not measured, so its box begins at the second and is 1 shorter."""
    rows = ReleaseReader(open_release(released.url, "0.1.0")).shape("P-4")[1]
    for crop_rows in (rows - 2, rows - 1, rows, rows + 3):
        crops = ReleaseDataset(
            open_release(released.url, "0.1.0"), ["P-4"], crop_zyx=(16, crop_rows, 12), seed=1
        )
        starts = set()
        for epoch in range(60):
            crops.set_epoch(epoch)
            starts.add(int(crops[0]["start"][1]))
        room = rows - 1 - crop_rows
        assert starts == set(range(1 + min(room, 0), 2 + max(room, 0))), crop_rows
    middle = ReleaseDataset(
        open_release(released.url, "0.1.0"), ["P-4"], crop_zyx=(16, rows - 3, 12)
    )[0]
    assert int(middle["start"][1]) == 2
    depth, _, columns = crops.reader.shape("P-4")
    fitted = ReleaseDataset(
        open_release(released.url, "0.1.0"),
        ["P-4", "P-0"],
        crop_zyx=(64, 64, 12),
        seed=1,
        fitted=4,
    )
    sizes = [fitted[n]["image"].shape[1:] for n in range(2)]
    assert sizes == [(-(-depth // 4) * 4, -(-n // 4) * 4, 12) for n in (rows - 1, rows)]
    assert columns > 12
    assert fitted[0]["valid"].sum() == depth * (rows - 1) * 12


def test_a_focused_crop_can_hold_the_marked_voxel_at_either_end(store):
    """One voxel is marked.

    Every position of it in the crop is drawn, the first and the last included.
    """
    patch = ball_patch()
    readers = np.zeros_like(patch.readers)
    voxel = tuple(n // 2 for n in patch.grid.shape)
    readers[(slice(None), *voxel)] = True
    write_case(store, new_case(patch=replace(patch, readers=readers)))
    member = Member("P-1", "P", "d" * 64, "lb", "ann", False, "train", False)
    draft = Draft((member,), (), read_case_files(store, "P-1", "d" * 64), {}, {})
    release = publish_release(store, "0.1.0", draft, publisher="ann")
    crops = ReleaseDataset(release, "train", crop_zyx=(3, 3, 3), seed=1, focus=1.0)
    offsets = set()
    for epoch in range(200):
        crops.set_epoch(epoch)
        item = crops[0]
        assert item["union"].sum() == 1
        offsets.add(tuple((np.array(voxel) - item["start"].numpy()).tolist()))
    assert offsets == {(z, y, x) for z in range(3) for y in range(3) for x in range(3)}


def test_places_come_from_seed_epoch_and_index_alone(released):
    dataset = ReleaseDataset(open_release(released.url, "0.1.0"), "train", crop_zyx=CROP, seed=7)
    first = draws(dataset)
    assert same(
        draws(
            ReleaseDataset(open_release(released.url, "0.1.0"), "train", crop_zyx=CROP, seed=7),
            shuffle=True,
        ),
        first,
    )
    assert not same(
        draws(ReleaseDataset(open_release(released.url, "0.1.0"), "train", crop_zyx=CROP, seed=8)),
        first,
    )
    dataset.set_epoch(1)
    second = draws(dataset)
    assert not same(second, first)
    starts = {tuple(item["start"].tolist()) for epoch in (first, second) for item in epoch.values()}
    assert len(starts) > 6, "nodules of one epoch are cropped at places of their own"


def test_workers_that_live_on_hear_of_the_next_epoch(released):
    dataset = ReleaseDataset(open_release(released.url, "0.1.0"), "train", crop_zyx=CROP, seed=7)
    how = {
        "batch_size": None,
        "num_workers": 1,
        "multiprocessing_context": "spawn",
        "persistent_workers": True,
    }
    loader, seen = DataLoader(dataset, **how), []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        seen.append({item["nodule"]: item for item in loader})
        assert same(seen[-1], draws(dataset))
    assert not same(*seen)


@pytest.mark.slow
def test_forked_workers_draw_the_same(released):
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.releases.forked", released.url],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "the same\n", done.stderr


def test_an_export_gives_the_same_crops(released, tmp_path):
    export(released.url, "0.1.0", "zarr", tmp_path / "export")
    ours, theirs = (
        ReleaseDataset(open_release(url, version), "train", crop_zyx=CROP, seed=7)
        for url, version in ((released.url, "0.1.0"), (str(tmp_path / "export"), None))
    )
    assert same(draws(theirs), draws(ours))
    with pytest.raises(
        InputError,
        match=r"holds another export: got release 0\.1\.0 as zarr, expected release 0\.2\.0",
    ):
        ReleaseReader(open_release(str(tmp_path / "export"), "0.2.0"))
    export(released.url, "0.1.0", "npz", tmp_path / "npz")
    with pytest.raises(InputError, match=r"holds another export: got release 0\.1\.0 as npz"):
        ReleaseReader(open_release(str(tmp_path / "npz")))


def test_it_is_pickled_as_an_address(released):
    dataset = ReleaseDataset(open_release(released.url, "0.1.0"), "train", crop_zyx=CROP, seed=7)
    draws(dataset)
    data = pickle.dumps(dataset.reader)
    assert len(data) < 300
    assert pickle.loads(data).nodules("train") == dataset.nodules


def test_batches_are_collated(released):
    dataset = ReleaseDataset(open_release(released.url, "0.1.0"), ["P-4", "P-0"], crop_zyx=CROP)
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch["image"].shape == (2, 1, *CROP)
    assert batch["nodule"] == ["P-4", "P-0"]
    rows = dataset.reader.shape("P-4")[1]
    assert batch["start"][:, 1].tolist() == [1 + (rows - 1 - CROP[1]) // 2, (rows - CROP[1]) // 2]
    inside = slice(-int(batch["start"][0, 0]), -int(batch["start"][0, 0]) + 10)
    assert batch["valid"][:, 0, inside].all()


def test_other_mattes_and_arrays_are_read_by_name(released):
    reader = ReleaseReader(open_release(released.url, "0.1.0"))
    case = read_case(released, "P-1", "1" * 64)
    assert (reader.read("P-1", "alpha", method="knn+") == case.alpha("knn+")).all()
    assert (
        reader.read("P-1", "known_alpha", (1, 2, 3), (4, 5, 6))
        == case.array("known_alpha")[1:5, 2:7, 3:9]
    ).all()
    assert (reader.read("P-1", "trimap") == case.array("labels/trimap/0")).all()
    assert reader.grid("P-1") == case.grid
    for name, how, message in (
        ("alpha", {"method": "best"}, "no such matte: got best, expected cf or knn"),
        ("ct", {}, "has no such array: got ct, expected alpha or image"),
    ):
        with pytest.raises(InputError, match=message):
            reader.read("P-1", name, **how)


def test_what_cannot_be_read_is_refused(released):
    with pytest.raises(InputError, match=r"lacks a split: got validation, expected test or train"):
        ReleaseDataset(open_release(released.url, "0.1.0"), "validation")
    with pytest.raises(InputError, match="has no such nodule: got P-9, expected one of its 5"):
        ReleaseDataset(open_release(released.url, "0.1.0"), ["P-9"])
    for crop in ((96, 96), (0, 9, 9), (9.5, 9, 9)):
        with pytest.raises(InputError, match="invalid size of a crop"):
            ReleaseDataset(open_release(released.url, "0.1.0"), "train", crop_zyx=crop)
    with pytest.raises(InputError, match="invalid seed: got -1"):
        ReleaseDataset(open_release(released.url, "0.1.0"), "train", seed=-1)
    with pytest.raises(InputError, match="a store holds many releases"):
        open_release(released.url)
    with pytest.raises(IndexError):
        ReleaseDataset(open_release(released.url, "0.1.0"), "test")[1]
    withdraw_release(released, "0.1.0", "mislabelled", by="bob")
    with pytest.raises(
        InputError, match=r"withdrawn release is not read: got .* by bob: mislabelled"
    ):
        ReleaseReader(open_release(released.url, "0.1.0"))
    assert (
        len(ReleaseReader(open_release(released.url, "0.1.0", allow_withdrawn=True)).nodules()) == 5
    )


@pytest.mark.slow
def test_spawned_workers_read_a_bucket(released):
    with (
        moto_server() as port,
        environment({**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}),
    ):
        bucket = open_store(f"s3://{BUCKET}/set", create=True)
        for key in released.list_prefix(""):
            bucket.put(key, released.get(key))
        ours, theirs = (
            ReleaseDataset(open_release(url, "0.1.0"), "train", crop_zyx=CROP, seed=7)
            for url in (released.url, bucket.url)
        )
        assert same(draws(theirs, 2, "spawn"), draws(ours))


def test_a_bucket_is_refused_after_a_fork_instead_of_waiting_for_ever(released):
    reader = ReleaseReader(open_release(released.url, "0.1.0"))
    reader._files = released
    assert reader.shape("P-0") == ball_patch().grid.shape
    reader._process += 1
    with pytest.raises(InputError, match=r"cannot be read in a forked process.*spawn"):
        reader.shape("P-1")


@pytest.mark.slow
def test_commands_and_workers_do_not_wait_for_torch():
    modules = (
        "flows.cli.main, flows.curate, flows.publish, flows.export, flows.cli.demo, "
        "tasks.curation.context, storage.releases.reader"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("exported", [False, True])
def test_a_lost_or_damaged_volume_is_damage_and_never_air(released, tmp_path, exported):
    export(released.url, "0.1.0", "zarr", tmp_path / "export")
    folder = (
        tmp_path / "export" / "P-0" if exported else Path(released.url, "cases", "P-0", "0" * 64)
    )
    reader = (
        ReleaseReader(open_release(str(tmp_path / "export")))
        if exported
        else ReleaseReader(open_release(released.url, "0.1.0"))
    )
    for name, path in (("image", "image/c/0/0/0"), ("alpha", "alpha/c/0/0/0/0")):
        reader.read("P-0", name)
        good = (folder / path).read_bytes()
        for bad in (good[: len(good) // 2], bytes(len(good)), b""):
            (folder / path).write_bytes(bad)
            with pytest.raises(CorruptionError, match=f"{path} of release .* is damaged"):
                reader.read("P-0", name)
        (folder / path).unlink()
        with pytest.raises(CorruptionError, match=f"{path} of release .* is missing"):
            reader.read("P-0", name)
    (folder / "zarr.json").unlink()
    with pytest.raises(CorruptionError, match=r"P-0.*/zarr\.json is missing or damaged"):
        (
            ReleaseReader(open_release(str(tmp_path / "export")))
            if exported
            else ReleaseReader(open_release(released.url, "0.1.0"))
        ).shape("P-0")


def test_arrays_of_another_make_are_read_too(released):
    case = f"{released.url}/cases/P-0/{'0' * 64}"
    values = read_case(released, "P-0", "0" * 64).array("image")
    for how in (
        {"chunks": (4, 8, 8)},
        {"chunks": (5, 8, 8), "shards": (10, 24, 24)},
        {"compressors": None},
    ):
        zarr.create_array(case, name="image", data=values, overwrite=True, **how)
        box = ReleaseReader(open_release(released.url, "0.1.0")).read(
            "P-0", "image", (1, 2, 3), (4, 5, 60)
        )
        assert (box == values[1:5, 2:7, 3:]).all()


def test_crops_are_chosen_as_numpy_torch_and_pathlib_have_it(released, tmp_path):
    export(released.url, "0.1.0", "zarr", tmp_path / "export")
    opened = open_release(Path(released.url), "0.1.0")
    plain = ReleaseDataset(opened, ("train", "test"), crop_zyx=(8, 8, 8), seed=1)
    assert plain.nodules == ("P-0", "P-1", "P-2", "P-3", "P-4")
    assert repr(plain) == "ReleaseDataset(0.1.0, 5 nodules, crops of 8x8x8)"
    other = ReleaseDataset(
        tmp_path / "export",
        np.array(["train", "P-4"]),
        crop_zyx=np.int64(8),
        seed=torch.tensor(1),
        transform=lambda item: (item["nodule"], item["image"] + 1),
    )
    for n in (3, np.int64(3), np.uint8(3), torch.tensor(3), -2):
        nodule, image = other[n]
        assert nodule == plain[n]["nodule"] == "P-3"
        assert (image == plain[3]["image"] + 1).all()
    assert len(ReleaseDataset(str(tmp_path / "export"), "test", crop_zyx=torch.tensor([8, 8, 8])))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": 3}, "invalid choice of nodules: got 3"),
        ({"seed": 0.5}, r"invalid seed: got 0\.5, expected a whole number"),
        ({"crop_zyx": None}, "invalid size of a crop: got None"),
        ({"crop_zyx": "96"}, "invalid size of a crop: got 96"),
        ({"focus": 1.5}, r"invalid share .* got 1\.5, expected 0 to 1"),
        ({"fitted": -8}, "invalid multiple of voxels: got -8"),
    ],
)
def test_a_choice_of_another_type_is_refused_in_words(released, given, message):
    with pytest.raises(InputError, match=message):
        ReleaseDataset(open_release(released.url, "0.1.0"), **{"split": "train", **given})


def test_a_release_and_an_export_on_a_web_server_are_read(released, tmp_path):
    export(released.url, "0.1.0", "zarr", tmp_path / "export")
    for folder, path, version in (
        (Path(released.url), "", "0.1.0"),
        (tmp_path, "/export", None),
    ):
        with served(folder) as address:
            remote = ReleaseDataset(open_release(f"{address}{path}", version), "train", seed=2)
            local = ReleaseDataset(open_release(released.url, "0.1.0"), "train", seed=2)
            assert same({"P-1": remote[1]}, {"P-1": local[1]})
            with pytest.raises(InputError, match="there is no store here"):
                open_release(f"{address}/nowhere", "0.1.0")


@contextmanager
def served(folder):
    """Serve a folder as a plain web server does."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))
    )
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_bucket_s_volumes_are_downloaded_once(released, tmp_path, monkeypatch):
    """In the first epoch; then they are read from the folder, by other processes too."""
    downloads = []
    get = type(released).get

    def counted(store, key):
        downloads.append(key)
        return get(store, key)

    release = open_release(released.url, "0.1.0")
    expected = draws(ReleaseDataset(release, "train", crop_zyx=CROP, seed=7))
    dataset = ReleaseDataset(release, "train", crop_zyx=CROP, seed=7, cache=tmp_path / "cache")
    dataset.reader._files = released  # as if it were a bucket
    monkeypatch.setattr(type(released), "get", counted)
    for _ in range(2):
        assert same(draws(dataset), expected)
    volumes = [key for key in downloads if "/c/" in key]
    assert len(volumes) == len(set(volumes)) == 4 * (1 + 1 + 1 + 4)
    other = pickle.loads(pickle.dumps(dataset.reader))
    other._files = released
    downloads.clear()
    assert (other.read("P-1", "image") == dataset.reader.read("P-1", "image")).all()
    assert not [key for key in downloads if "/c/" in key]


def test_a_folder_s_volumes_are_not_copied(released, tmp_path):
    dataset = ReleaseDataset(
        open_release(released.url, "0.1.0"), "train", crop_zyx=CROP, cache=tmp_path / "cache"
    )
    draws(dataset)
    assert not (tmp_path / "cache").exists()
