"""Identifiers planted in a table or in DICOM: what is found of them in anything that is written."""

import csv
import gzip
import io
import shutil
import zipfile
from functools import partial
from pathlib import Path

import httpx
import pandas as pd
import pytest

from qc.review.auth import Authenticator
from qc.review.routes import make_app
from qc.review.service import ReviewService
from storage.cases.outcomes import read_outcomes
from storage.recipe import ReviewSettings
from storage.sources.synthetic import write_synthetic
from storage.store import open_store
from tests.phantoms import ball_patch, write_table
from tests.qc.review.conftest import Caller, InThisProcess
from tests.storage.exports.test_dicom_seg import PLANTED, plant, planted_words

WORDS = (
    "Nowakowski", "Bronislawa", "19230417", "MRN88231177", "Seepromenade", "Ottilien",
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
def write_all(halosign, scheduler, environment):
    """Let every command write what it writes of a source; return it by name."""
    return partial(everything_written, halosign, scheduler, environment)


@pytest.fixture(scope="module")
def written(private_table, write_all, tmp_path_factory):
    """Everything that was written of the table."""
    folder = tmp_path_factory.mktemp("written")
    source = ("--files", private_table, "--pseudonymize", private_table.parents[1] / "key")
    return write_all(folder, source, ["done", "failed", "refused"])


@pytest.fixture(scope="module")
def private_dicom(tmp_path_factory):
    """Scans of two patients whose headers name people; of one scan, half of the slices are lost."""
    folder = tmp_path_factory.mktemp("clinic")
    write_synthetic(folder, ("LIDC-IDRI-0078", "LIDC-IDRI-0789"), 20221011)
    plant(folder)
    slices = sorted((folder / "LIDC-IDRI-0078").rglob("*.dcm"))
    for path in slices[len(slices) // 2 :]:
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def written_of_dicom(private_dicom, write_all, tmp_path_factory):
    """Everything that was written of the scans."""
    folder = tmp_path_factory.mktemp("written")
    return write_all(folder, ("--dicom", private_dicom), ["done", *["refused"] * 4])


def everything_written(halosign, scheduler, environment, folder, source, states):
    """Return store, exports, Prefect's records, pages, cache and output, by name."""
    recipe = folder / "recipe.yaml"
    recipe.write_text("{crop: {in_plane_voxels: 24}, run: {failure_budget: 1, retries: 0}}")
    store = folder / "store"
    shared = ("--store", store, "--recipe", recipe)
    given = (*source, *shared)
    said = {"plan": halosign("plan", *given)}
    said["curate"] = halosign("curate", *given, "--scheduler", scheduler, "--log-format", "json")
    outcomes = read_outcomes(open_store(str(store)))
    assert sorted(one.state for one in outcomes) == states, [one.reason for one in outcomes]
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


def found_in(written, planted, location):
    """Return the planted words by what they are found in.

    The location of the source is left out: the command line and Prefect's parameters name it, as
    the user did.
    """
    for kind in ("page /", "Prefect: artifacts", "curate", "manifest.json", "alpha.nii.gz"):
        assert any(kind in name for name in written), kind
    contents = {
        name: data.replace(str(location).encode(), b"").lower() for name, data in written.items()
    }
    found = {n: [w for w in planted if w.lower() in data] for n, data in contents.items()}
    return {name: words for name, words in found.items() if words}


@pytest.mark.slow
def test_no_planted_word_is_found_anywhere(written, private_table):
    planted = [word.encode() for word in WORDS]
    assert all(word in private_table.read_bytes() for word in planted)
    assert found_in(written, planted, private_table.parent) == {}


@pytest.mark.slow
def test_no_word_of_a_header_is_found_anywhere(written_of_dicom, private_dicom):
    assert len(PLANTED) == 30
    planted = planted_words()
    assert all(word in next(private_dicom.rglob("*.dcm")).read_bytes() for word in planted)
    assert any(b"slices are missing" in data for data in written_of_dicom.values())
    assert found_in(written_of_dicom, planted, private_dicom) == {}


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
    assert WORDS[0] not in done.stderr.replace(str(private_table), "")
    done = halosign("plan", "--dicom", tmp_path, "--store", store, "--pseudonymize", tmp_path / "k")
    assert done.returncode == 2
    assert "use it with" in done.stderr
    inside = ("--pseudonymize", store / "key")
    done = halosign("plan", "--files", private_table, "--store", store, *inside)
    assert done.returncode == 2
    assert "a file within the store" in done.stderr
