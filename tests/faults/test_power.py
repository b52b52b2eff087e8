"""The power fails at random moments of curation, review and publication."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows import curate
from flows.curate import curate_nodule
from storage.cases.case import find_incomplete, read_case_files, verify_files
from storage.cases.outcomes import read_outcomes
from storage.cases.runs import write_run
from storage.errors import CorruptionError
from storage.folder import Folder
from storage.maintenance.gc import find_garbage
from storage.maintenance.verify_records import verify_records
from storage.recipe import Recipe
from storage.records import Run, Verdict
from storage.releases.release import is_published, publish_release
from storage.releases.verify import verify_release
from storage.reviews.verdicts import read_verdicts, record_verdict
from storage.sources.registry import SourceSpec
from storage.store import Store, open_store
from tasks.curation import context
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.curation.plan import make_plan
from tasks.publish import draft_release
from tests.complaints import complaints_about
from tests.phantoms import ball_patch, write_table
from tests.power import PowerLossError, UnsafeDisk

NODULES = ("n1", "n2")
QUICK_SEEDS, SLOW_SEEDS = 4, 200


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A table of two nodules, whose mattes are computed once for all seeds."""
    folder = tmp_path_factory.mktemp("scans")
    table = write_table(folder, {name: ball_patch(seed=n) for n, name in enumerate(NODULES)})
    solved = {}
    estimate = curate.estimate_mattes

    def estimate_once(context, patch, trimap):
        if context.nodule.id not in solved:
            solved[context.nodule.id] = (estimate(context, patch, trimap), context.reports)
        solutions, context.reports = solved[context.nodule.id]
        return solutions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curate, "estimate_mattes", estimate_once)
        yield SourceSpec("files", str(table))


@dataclass
class Work:
    """The commands of one day, and what they were told is done."""

    job: CurationJob
    cases: dict[str, str] = field(default_factory=dict)
    """Digest by nodule."""
    verdicts: list[Verdict] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return open_store(self.job.store_url, create=True)

    def carry_out(self) -> None:
        """Curate, review and publish, as far as that was not done."""
        run = Run("table", "test", len(NODULES), 0, 0)
        write_run(self.store, run)
        plan = make_plan(self.store, self.job, take_inventory(self.job, None))
        for nodule in plan.to_compute:
            outcome = curate_nodule(nodule, self.job)
            assert outcome.state == "done", outcome.reason
            self.cases[nodule.id] = str(outcome.digest)
        for outcome in read_outcomes(self.store):
            self.cases[outcome.nodule_id] = str(outcome.digest)
            for method in ("lb", "cf"):
                verdict = Verdict(
                    outcome.nodule_id, str(outcome.digest), "choose", method, "ann", False
                )
                known = read_verdicts(self.store, outcome.nodule_id)
                if not any(one.method == method for one in known):
                    self.verdicts.append(record_verdict(self.store, verdict))
        for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0"):
            begun = any(self.store.list_prefix(f"releases/{version}"))
            if not begun:
                draft = draft_release(self.store, version, self.job.recipe)
                publish_release(self.store, version, draft, publisher="ann")
            if not begun or is_published(self.store, version):
                # It may have been published when the power failed before anybody was told.
                self.releases = [*dict.fromkeys((*self.releases, version))]
                break

    def losses(self) -> list[str]:
        """Compare the store with what was told."""
        store, found = self.store, []
        for nodule_id, digest in self.cases.items():
            wrong = find_incomplete(store, nodule_id, digest)
            if wrong:
                found.append(wrong)
            else:
                found += verify_files(store, read_case_files(store, nodule_id, digest))
        for verdict in self.verdicts:
            try:
                known = read_verdicts(store, verdict.nodule_id)
            except CorruptionError as error:
                found.append(str(error))
            else:
                found += [] if verdict in known else [f"verdict {verdict.id}"]
        for version in self.releases:
            found += verify_release(store, version)
        return found


def live(work: Work, path: Path, fails_at: int | None) -> UnsafeDisk:
    """Carry the commands out on a disk until its power fails."""
    context._store.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        disk = UnsafeDisk(path, fails_at)
        patch.setattr("storage.store.Folder", lambda folder: Folder(folder, disk))
        try:
            work.carry_out()
        except PowerLossError:
            assert fails_at is not None
    context._store.cache_clear()
    return disk


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    """How many operations the commands take, and the bytes of the cases."""
    path = tmp_path_factory.mktemp("undisturbed")
    work = new_work(source, path)
    disk = live(work, path, None)
    assert len(work.cases) == len(NODULES)
    assert len(work.verdicts) == 2 * len(NODULES)
    assert work.releases == ["0.1.0"]
    return disk.operations, cases(work.store)


def new_work(source, path):
    recipe = Recipe.model_validate({"crop": {"in_plane_voxels": 24}})
    return Work(CurationJob(source, str(path), recipe))


def cases(store):
    return {key: store.get(key) for key in store.list_prefix("cases")}


@pytest.mark.parametrize(
    "seed",
    [
        *range(QUICK_SEEDS),
        *(pytest.param(n, marks=pytest.mark.slow) for n in range(QUICK_SEEDS, SLOW_SEEDS)),
    ],
)
def test_nothing_that_was_acknowledged_is_lost(seed, source, undisturbed, tmp_path):
    operations, whole = undisturbed
    dice = random.Random(seed)
    work = new_work(source, tmp_path)
    for _ in range(dice.randrange(1, 4)):
        disk = live(work, tmp_path, dice.randrange(operations))
        disk.restart(dice)
        assert work.losses() == []
        assert_every_record_is_whole(work.store)
    live(work, tmp_path, None)
    assert work.losses() == []
    assert cases(work.store) == whole
    assert len(work.cases) == len(NODULES)
    assert len(work.releases) == 1


def assert_every_record_is_whole(store: Store) -> None:
    """A record is there as it was written, or not at all; a version may only have been claimed."""
    complaints = complaints_about(store)
    complaints += [c for file in verify_records(store) for c in file.complaints]
    assert [
        c for c in complaints if "manifest.json is missing beside its claim" not in c.wrong
    ] == []
    find_garbage(store)


@pytest.mark.parametrize("forgotten", ["sync_files", "sync_folders"])
def test_without_syncing_the_same_commands_lose_what_was_acknowledged(
    forgotten, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(UnsafeDisk, forgotten, lambda *_: None)
    work = new_work(source, tmp_path)
    assert work.store  # whose marker is on the platter already
    live(work, tmp_path, None).restart(random.Random(1))
    assert len(work.losses()) >= len(NODULES)
