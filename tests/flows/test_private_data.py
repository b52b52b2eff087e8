"""Identifiers planted in a table: what is found of them in anything that Halosign writes."""

import csv
import gzip
import io
import shutil
import zipfile
from pathlib import Path

import httpx
import pandas as pd
import pytest

from qc.review.auth import Authenticator
from qc.review.routes import make_app
from qc.review.service import ReviewService
from storage.cases.outcomes import read_outcomes
from storage.recipe import ReviewSettings
from storage.store import open_store
from tests.phantoms import ball_patch, write_table
from tests.qc.review.conftest import Caller, InThisProcess

WORDS = (
    "Kowalczyk", "Bronislawa", "19230417", "MRN88231177", "Seepromenade", "Ottilien",
    "Oberhuber", "Zielinska", "Verlaufskontrolle", "ACC5520943",
)  # fmt: skip
OWN = ("nodule", "patient", "image", "readers", "n_readers", "known_alpha")
FOREIGN = ("name", "birth date", "address", "physician", "=cmd()")


@pytest.fixture(scope="module")
def private_table(tmp_path_factory):
    """One good nodule, one without its image and one without its lesion; all cells name people.

    Numbers of readers cannot: they are numbers.
    """
    folder = tmp_path_factory.mktemp("private") / WORDS[0]
    folder.mkdir()
    write_table(folder, {f"n{n}": ball_patch(seed=n) for n in range(3)})
    everything = " ".join(WORDS)
    rows = []
    for n in range(3):
        files = {}
        for kind in ("image", "readers"):
            files[kind] = f"{'-'.join(WORDS)}-{kind}-{n}.nii.gz"
            shutil.move(folder / f"n{n}.{kind}.nii.gz", folder / files[kind])
        names = {"nodule": f"{everything} {n}", "patient": everything if n < 1 else f"{WORDS[n]}^X"}
        row = {**names, **files, "n_readers": "4", "known_alpha": ""}
        rows.append(row | dict.fromkeys(FOREIGN, f"={everything}"))
    (folder / rows[1]["image"]).unlink()
    (folder / rows[2]["readers"]).write_bytes(gzip.compress(b"\0" * 400))
    table = folder / "table.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*OWN, *FOREIGN])
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.fixture(scope="module")
def written(private_table, halosign, scheduler, environment, tmp_path_factory):
    """Everything that was written, by name: store, exports, Prefect's records, cache, output."""
    folder = tmp_path_factory.mktemp("written")
    recipe = folder / "recipe.yaml"
    recipe.write_text("{crop: {in_plane_voxels: 24}, run: {failure_budget: 1, retries: 0}}")
    key, store = private_table.parents[1] / "key", folder / "store"
    shared = ("--store", store, "--recipe", recipe)
    given = ("--files", private_table, "--pseudonymize", key, *shared)
    said = {"plan": halosign("plan", *given)}
    said["curate"] = halosign("curate", *given, "--scheduler", scheduler, "--log-format", "json")
    outcomes = read_outcomes(open_store(str(store)))
    assert sorted(one.state for one in outcomes) == ["done", "failed", "refused"], [
        one.reason for one in outcomes
    ]
    commands = {
        "status": ("status", "--store", store),
        "auto": ("review", "auto", *shared),
        "publish": ("release", "publish", "0.1.0", *shared),
        **{f"why {one.nodule_id}": ("why", one.nodule_id, *given) for one in outcomes},
        **{
            kind: (
                *("release", "export", "0.1.0", "--store", store),
                "--format",
                kind,
                "--to",
                folder / kind,
            )
            for kind in ("zarr", "nifti", "npz")
        },
    }
    for name, command in commands.items():
        said[name] = halosign(*command)
        assert said[name].returncode == 0, said[name].stderr
    found = {name: (one.stdout + one.stderr).encode() for name, one in said.items()}
    found |= pages(open_store(str(store)))
    for kind in ("artifacts", "flow_runs", "task_runs", "logs"):
        address = f"{environment['PREFECT_API_URL']}/{kind}/filter"
        found[f"Prefect: {kind}"] = httpx.post(address, json={}, trust_env=False).content
    for place in (folder, Path(environment["HOME"])):
        found |= {str(path): readable(path) for path in place.rglob("*") if path.is_file()}
    return found


def pages(store):
    """Return what the review page shows of the store."""
    review = ReviewService(store, ReviewSettings(), blind=False)
    page = InThisProcess(make_app(review, Authenticator(None), local=True))
    ann = Caller(page.url, store, "ann")
    found = {"page /": ann.client.get("/?show=all").content}
    for outcome in read_outcomes(store):
        for start in ("/nodule/", "/api/nodule/"):
            address = f"{start}{outcome.nodule_id}"
            found[f"page {address}"] = ann.client.get(address).content
    ann.client.close()
    page.stop()
    return found


def readable(path):
    """Return a file's bytes, and what they say once unpacked."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return data + gzip.decompress(data)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            return b"".join(map(archive.read, archive.namelist()))
    if path.suffix == ".parquet":
        return data + pd.read_parquet(io.BytesIO(data)).to_csv().encode()
    return data


@pytest.mark.slow
def test_no_planted_word_is_found_anywhere(written, private_table):
    planted = [word.encode() for word in WORDS]
    assert all(word in private_table.read_bytes() for word in planted)
    kinds = ("page /", "Prefect: artifacts", "curate", "manifest.json", "alpha.nii.gz")
    for kind in kinds:
        assert any(kind in name for name in written), kind
    # The command line and Prefect's parameters name the table, as the user did
    location = str(private_table.parent).encode()
    for name, data in written.items():
        content = data.replace(location, b"")
        assert [word for word in planted if word.lower() in content.lower()] == [], name


@pytest.mark.slow
def test_refused_nodules_name_the_column(written):
    reasons = b"".join(data for name, data in written.items() if "/outcomes/" in name)
    assert b"the CT is not there: got the file of column `image`" in reasons, reasons
    assert b"got the file of column `readers`" in reasons, reasons


@pytest.mark.slow
def test_a_release_has_no_path_and_no_user(written, environment):
    released = {n: d for n, d in written.items() if "/releases/" in n or "/nifti/" in n}
    assert any(name.endswith("README.md") for name in released)
    for name, data in released.items():
        for word in (b"/tmp/", environment["HOME"].encode(), b"/home/", b"/root"):
            assert word not in data, (name, word)


@pytest.mark.slow
def test_the_map_leads_back(private_table, written):
    rows = list(csv.reader((private_table.parents[1] / "key.map.csv").read_text().splitlines()))
    assert len(rows) == 4
    assert {row[1] for row in rows[1:]} == {" ".join(WORDS), f"{WORDS[1]}^X", f"{WORDS[2]}^X"}


def test_what_cannot_be_used_together_is_refused(halosign, private_table, tmp_path):
    store = tmp_path / "store"
    done = halosign("plan", "--files", private_table, "--store", store)
    assert done.returncode == 2
    assert "cannot be used as an id: got the characters ' '" in done.stderr
    assert "Kowalczyk" not in done.stderr.replace(str(private_table), "")
    done = halosign("plan", "--dicom", tmp_path, "--store", store, "--pseudonymize", tmp_path / "k")
    assert done.returncode == 2
    assert "use it with" in done.stderr
    inside = ("--pseudonymize", store / "key")
    done = halosign("plan", "--files", private_table, "--store", store, *inside)
    assert done.returncode == 2
    assert "a file within the store" in done.stderr
