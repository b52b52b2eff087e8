"""What each role of the cluster writes, by the table of docs/operations.md."""

import json
import re
from pathlib import Path

import pytest

from flows.curate import curate_nodule
from storage.recipe import load_recipe
from storage.records import Verdict
from storage.releases.release import publish_release, withdraw_release
from storage.reviews.verdicts import VerdictLog
from storage.sources.registry import SourceSpec
from storage.store import Store, open_store
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.phantoms import ball_patch, write_table
from tests.reviewable import add_nodule

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
POLICY = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])


def may_write(account: str) -> set[str]:
    """Return the folders of the store to which the policy lets an account write."""
    return {
        resource.removeprefix("arn:aws:s3:::halosign/store/").removesuffix("/*")
        for statement in POLICY["Statement"]
        if statement["Principal"] == [account]
        for resource in statement["Resource"]
    }


@pytest.fixture
def changes(monkeypatch):
    """The folders in which something was written or deleted."""
    written: set[str] = set()
    deleted: set[str] = set()
    put_all, create, delete = Store.put_all, Store.create, Store.delete

    def note(folders, keys):
        folders.update(key.partition("/")[0] for key in keys)

    monkeypatch.setattr(
        Store, "put_all", lambda self, files: (note(written, files), put_all(self, files))[1]
    )
    monkeypatch.setattr(
        Store, "create", lambda self, key, data: (note(written, [key]), create(self, key, data))[1]
    )
    monkeypatch.setattr(
        Store, "delete", lambda self, keys: (note(deleted, keys), delete(self, keys))[1]
    )
    return written, deleted


def test_the_table_and_the_policy_say_the_same():
    for service, account in (("worker", "worker"), ("review", "reviewer")):
        row = re.search(rf"\| `{service}` \| `{account}` \| ([^|]*) \| nothing \|", PAGE)
        assert set(re.findall(r"`(\w+)/`", row[1])) == may_write(account)


def test_a_worker_writes_cases_and_outcomes(store, changes, tmp_path):
    table = write_table(tmp_path, {"n1": ball_patch(seed=1)})
    recipe = load_recipe(None, crop={"in_plane_voxels": 24})
    job = CurationJob(SourceSpec("files", str(table)), store.url, recipe)
    for _ in range(2):  # the second finds the case
        (nodule,) = take_inventory(job, None).nodules
        assert curate_nodule(nodule, job).state == "done"
    written, deleted = changes
    assert written == {"cases", "outcomes"}
    assert written <= may_write("worker")
    assert deleted == set()


def test_a_reviewer_writes_verdicts(tmp_path, changes):
    store = open_store(str(tmp_path / "store"), create=True)
    digest = add_nodule(store, "P-1-a1")
    written, deleted = changes
    written.clear()
    for study in ("", "s"):
        verdict = Verdict("P-1-a1", digest, "choose", "cf", "ann", False, study=study)
        VerdictLog(store, study).record(verdict)
    assert written == may_write("reviewer") == {"decisions", "studies"}
    assert deleted == set()


def test_a_publisher_writes_releases(tmp_path, changes):
    store = open_store(str(tmp_path / "store"), create=True)
    table = write_table(tmp_path, {"n1": ball_patch(seed=1)})
    recipe = load_recipe(None, crop={"in_plane_voxels": 24})
    job = CurationJob(SourceSpec("files", str(table)), store.url, recipe)
    (nodule,) = take_inventory(job, None).nodules
    curate_nodule(nodule, job)
    pick_automatically(store)
    written, deleted = changes
    written.clear()
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", recipe), publisher="ann")
    withdraw_release(store, "0.1.0", "mislabelled", by="ann")
    assert written == may_write("publisher") == {"releases"}
    assert deleted == set()
