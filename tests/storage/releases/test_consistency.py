"""A release that contradicts itself, although every file has its SHA-256, is named in words."""

import hashlib
import io
import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from flows.curate import curate_nodule
from storage.layout import claim_key, manifest_key
from storage.recipe import Recipe
from storage.records import Claim, encode
from storage.releases.release import Release, publish_release
from storage.releases.verify import verify_release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.phantoms import ball_patch, write_table

OTHER = "f" * 64


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store with two nodules of two patients, and the draft of a release of them."""
    folder = tmp_path_factory.mktemp("sound")
    table = write_table(folder, {"n1": ball_patch(), "n2": ball_patch(seed=3)})
    store = open_store(str(folder / "store"), create=True)
    recipe = Recipe.model_validate({"crop": {"in_plane_voxels": 24}})
    job = CurationJob(SourceSpec("files", str(table)), store.url, recipe)
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    pick_automatically(store)
    return store, draft_release(store, "1.0.0", recipe)


@pytest.fixture
def publish(sound, request):
    """Publish the draft with some of it replaced; returns the store and the version."""
    store, draft = sound
    version = f"1.0.0-{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
    own = {
        name: data.replace(b"1.0.0", version.encode())
        if name in ("croissant.json", "datacite.json", "CITATION.cff")
        else data
        for name, data in draft.own_files.items()
    }

    def with_(change):
        changed = change(replace(draft, own_files=own))
        publish_release(store, version, changed, publisher="ann")
        return store, version

    return with_


def member(change):
    """Change what the manifest says of the first nodule."""

    def of(draft):
        first, *rest = draft.members
        return replace(draft, members=(replace(first, **change), *rest))

    return of


def file(name, change):
    """Change one of the release's own files."""
    return lambda draft: replace(
        draft, own_files={**draft.own_files, name: change(draft.own_files[name])}
    )


def index(change):
    """Change the index."""

    def of(data):
        buffer = io.BytesIO()
        change(pd.read_parquet(io.BytesIO(data))).to_parquet(buffer, index=False)
        return buffer.getvalue()

    return file("index.parquet", of)


def with_files(change):
    return lambda draft: replace(draft, case_files=change(dict(draft.case_files)))


def without(pattern):
    return with_files(lambda files: {k: v for k, v in files.items() if not re.search(pattern, k)})


def spread(draft):
    """Put two nodules of one patient into two splits."""
    first, second = draft.members
    members = (
        replace(first, split="train", patient_id="P"),
        replace(second, split="test", patient_id="P"),
    )
    return replace(draft, members=members)


def text(old, new):
    def of(data):
        assert re.search(old, data)
        return re.sub(old, new, data, count=1)

    return of


CONTRADICTIONS = {
    "split": (member({"split": "holdout"}), "'n1': no such split: got 'holdout', expected train,"),
    "patients": (spread, "nodules of one patient are in several splits: 'n1' in 'train', 'n2' in"),
    "patient": (member({"patient_id": "JANE"}), "'n1': its case is of another patient than the"),
    "method": (member({"method": "magic"}), "'n1': no such method: got 'magic', expected one of"),
    "digest": (member({"digest": OTHER}), "'n1': the manifest lists no file of its case"),
    "form": (member({"form": "improved"}), "form of 'n1' contradicts its case: got 'improved'"),
    "synthetic": (member({"synthetic": True}), "`stand_in` of 'n1' contradicts its case: got True"),
    "discarded": (
        lambda draft: replace(draft, discarded=("n2",)),
        "'n2': it is discarded and part of the release",
    ),
    "extra file": (
        with_files(lambda files: {**files, "store.json": next(iter(files.values()))}),
        "'store.json': it is no file of a case that the manifest names",
    ),
    "lost file": (without("n1/.*/image/c"), "contradicts the mark of 'n1': it lacks 'cases/n1/"),
    "lost matte": (without("n1/.*/alpha/c"), "'n1': the manifest lists no matte of"),
    "lost metadata": (without("n1/[^/]*/zarr"), "contradicts the mark of 'n1': it lacks 'cases/n1"),
    "index: nodules": (
        index(lambda rows: rows[1:]),
        "index.parquet: 1 rows, 2 nodules in the manifest; it lacks 'n1' and adds none",
    ),
    "index: twice": (
        index(lambda rows: pd.concat([rows, rows])),
        "index.parquet: 4 rows, 2 nodules in the manifest; it lacks no nodule and adds none",
    ),
    "index: method": (
        index(lambda rows: rows.assign(method="knn+")),
        "index.parquet: method of 'n1' contradicts the manifest: got 'knn+'",
    ),
    "index: patient": (
        index(lambda rows: rows.assign(patient_id="JANE")),
        "index.parquet: 'n1' is of another patient than the manifest says",
    ),
    "index: no table": (file("index.parquet", lambda _: b"PAR1"), "index.parquet: it cannot be"),
    "splits: split": (
        file("splits.csv", lambda data: re.sub(rb"(train|validation|test)\n", b"none\n", data)),
        "splits.csv: split of 'n1' contradicts the manifest: got 'none'",
    ),
    "splits: no nodules": (file("splits.csv", lambda _: b"name\na\n"), "splits.csv: it cannot be"),
    "statistics": (
        file("fingerprint.csv", lambda data: data.splitlines(keepends=True)[0]),
        "fingerprint.csv: 0 rows, 2 nodules in the manifest; it lacks 'n1', 'n2'",
    ),
    "quantiles": (
        file("fingerprint.json", text(rb'"nodules": 2', b'"nodules": 3')),
        "fingerprint.json: nodules contradicts the manifest: got 3, expected 2",
    ),
    "deep JSON": (file("fingerprint.json", lambda _: b"[" * 100_000), "fingerprint.json: it cann"),
    "croissant: version": (
        file("croissant.json", text(rb'"version": "', b'"version": "9')),
        "croissant.json: version contradicts the manifest: got '91.0.0",
    ),
    "croissant: file": (
        file("splits.csv", lambda data: data.replace(b"\n", b"\r\n")),
        "croissant.json: sha256 of 'splits.csv' contradicts the manifest: got",
    ),
    "DataCite": (
        file("datacite.json", text(rb'"version": "', b'"version": "9')),
        "datacite.json: version contradicts the manifest: got '91.0.0",
    ),
    "citation": (
        file("CITATION.cff", text(rb"\nversion: ", b"\nversion: 9")),
        "CITATION.cff: version contradicts the manifest: got '91.0.0",
    ),
    **{
        f"card: {name}": (file("README.md", text(old, new)), "README.md contradicts the manifest:")
        for name, old, new in (
            ("nodules", rb"- 2 nodules", b"- 3 nodules"),
            ("discarded", rb"; 0 discarded", b"; 1 discarded"),
            ("splits", rb"by patient: \w+", b"by patient: none"),
            ("methods", rb"by method: \w+", b"by method: none"),
            ("simulated", rb"simulated scans: \d+", b"simulated scans: 7"),
            ("question", rb"release answers: \w+", b"release answers: beauty"),
            ("forms", rb"matting methods: \w+", b"matting methods: improved"),
        )
    },
}


def test_a_sound_release_has_no_contradiction(publish):
    store, version = publish(lambda draft: draft)
    assert verify_release(store, version) == []


def test_a_copy_without_marks_has_none_either(publish, tmp_path):
    store, version = publish(lambda draft: draft)
    copy = open_store(str(tmp_path / "copy"), create=True)
    for key in store.list_prefix(""):
        if not key.endswith(".done") and key != "store.json":
            copy.put(key, store.get(key))
    assert verify_release(copy, version) == []


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_named(publish, name):
    change, expected = CONTRADICTIONS[name]
    store, version = publish(change)
    complaints = verify_release(store, version)
    assert any(expected in complaint for complaint in complaints), complaints
    assert "JANE" not in "".join(complaints)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: replace(m, version="7.0.0"), "version contradicts its folder: got '7.0.0'"),
        (lambda m: replace(m, synthetic=True), "`stand_in` contradicts its nodules: got True"),
        (
            lambda m: replace(m, members={"n2": m.members["n1"], "n1": m.members["n2"]}),
            "the id of a nodule contradicts the manifest's key: got 'n1', expected 'n2'",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_named(publish, change, expected):
    store, version = publish(lambda draft: draft)
    data = encode(change(Release.open(store, version).manifest))
    store.put(manifest_key(version), data)
    store.put(claim_key(version), encode(Claim("ann", hashlib.sha256(data).hexdigest())))
    complaints = verify_release(store, version)
    assert any(expected in complaint for complaint in complaints), complaints


def test_what_is_damaged_is_named_once(publish):
    store, version = publish(lambda draft: draft)
    key = f"releases/{version}/index.parquet"
    store.put(key, b"PAR1")
    (complaint,) = verify_release(store, version)
    assert complaint.startswith(f"{key}: 4 bytes")


def test_the_command_ends_with_exit_code_1(publish):
    store, version = publish(member({"method": "magic"}))
    done = CliRunner().invoke(app, ["release", "verify", version, "--store", store.url])
    assert done.exit_code == 1
    assert "no such method: got 'magic', expected one of cf, knn, lb, if, cf+" in done.output
    to = f"{store.url}-{version}"
    export = ["release", "export", version, "--store", store.url, "--format", "npz", "--to", to]
    done = CliRunner().invoke(app, export)
    assert "publish a corrected version" in str(done.exception)


def test_releases_of_earlier_versions_say_less_and_are_valid(publish):
    """Before forms had names, cards had no line of them and manifests no form of a nodule."""

    def of(draft):
        own = {
            name: data
            for name, data in draft.own_files.items()
            if name in ("README.md", "splits.csv")
        }
        card = re.sub(rb"- (Parameters of|Question that) .*\n", b"", own["README.md"])
        return replace(draft, own_files={**own, "README.md": card}, recipe={})

    store, version = publish(of)
    manifest = json.loads(store.get(manifest_key(version)))
    assert "review" not in manifest["recipe"]
    assert verify_release(store, version) == []
