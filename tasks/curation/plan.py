"""What would run, and why: every nodule of a source held against what the store knows of it."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

from storage.cases.case import ALGORITHM_VERSION, is_done
from storage.cases.outcomes import find_outcome, map_concurrently, write_outcome
from storage.records import SELECTION, Outcome
from storage.sources.base import Exclusion, Inventory, Nodule
from storage.store import Store
from tasks.curation.context import CurationJob, input_fingerprint

TYPICAL_SECONDS = 3.0
TYPICAL_BYTES = 2_500_000
"""Of one nodule, where the store has none to go by: medians over real nodules on one core."""
LARGEST_PATCH_VOXELS, LARGEST_UNKNOWN_VOXELS = 4_500_000, 150_000
"""Of any nodule of LIDC-IDRI: a nodule that was never seen is expected to be no larger."""
PROCESS_BYTES = 500_000_000
PREPARING_BYTES_PER_VOXEL, SOLVING_BYTES_PER_VOXEL, SOLVING_BYTES_PER_UNKNOWN_VOXEL = 150, 30, 4_500
"""What a worker holds at most: its libraries, and for a patch either what resampling and the trimap take or what the
solvers build. `python -m benchmarks.memory` holds them against what whole nodules took."""


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """What is to be done with one nodule."""

    nodule: Nodule
    compute: bool
    reason: str
    before: Outcome | None
    """What the store knew, in brief."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do."""

    choices: tuple[PlannedAction, ...]
    exclusions: tuple[Exclusion, ...]
    expected_seconds: float
    """Of one worker."""
    expected_bytes: float
    going_by: int
    """Finished nodules that the expectation stands on; 0 means typical values."""
    expected_peak_bytes: float = 0.0
    """Most memory that one worker needs, working on one nodule at a time; 0 where nothing is to be computed."""

    @property
    def to_compute(self) -> tuple[Nodule, ...]:
        """The nodules that will be computed."""
        return tuple(choice.nodule for choice in self.choices if choice.compute)

    @property
    def kept(self) -> tuple[Outcome, ...]:
        """The outcomes that stand."""
        return tuple(
            choice.before for choice in self.choices if choice.before and not choice.compute
        )


def make_plan(store: Store | None, order: CurationJob, inventory: Inventory) -> Plan:
    """Decide for every nodule of a survey; without a store all is new. Asks the store of those nodules only."""

    def choose(nodule: Nodule) -> PlannedAction:
        choice = plan_nodule(
            store, order, nodule, find_outcome(store, nodule.id) if store else None
        )
        return replace(choice, before=choice.before.brief) if choice.before else choice

    choices = tuple(map_concurrently(choose, inventory.nodules))
    finished = [choice.before for choice in choices if choice.before and choice.before.stored_bytes]
    seconds = (
        statistics.median(sum(o.seconds.values()) for o in finished)
        if finished
        else TYPICAL_SECONDS
    )
    size = statistics.median(o.stored_bytes for o in finished) if finished else TYPICAL_BYTES
    todo = sum(choice.compute for choice in choices)
    peak = max((_peak_of(choice.before) for choice in choices if choice.compute), default=0.0)
    return Plan(choices, inventory.exclusions, todo * seconds, todo * size, len(finished), peak)


def expected_peak_bytes(patch_voxels: int, unknown_voxels: int) -> float:
    """Give the most memory that a process needs to take one nodule the whole way."""
    preparing = PREPARING_BYTES_PER_VOXEL * patch_voxels
    solving = (
        SOLVING_BYTES_PER_VOXEL * patch_voxels + SOLVING_BYTES_PER_UNKNOWN_VOXEL * unknown_voxels
    )
    return PROCESS_BYTES + max(preparing, solving)


def _peak_of(before: Outcome | None) -> float:
    """Go by the nodule's own size where it was solved before, else by the largest there is."""
    if before is None or not before.patch_voxels:
        return expected_peak_bytes(LARGEST_PATCH_VOXELS, LARGEST_UNKNOWN_VOXELS)
    return expected_peak_bytes(before.patch_voxels, before.unknown_voxels)


def plan_nodule(
    store: Store | None, order: CurationJob, nodule: Nodule, before: Outcome | None
) -> PlannedAction:
    """Decide for one nodule, given what the store knew of it."""
    if store is None or before is None:
        return PlannedAction(nodule, True, "new: the store has no outcome of it", before)
    if before.state == "failed":
        return PlannedAction(
            nodule, True, f"failed before at stage {before.stage}: {before.reason}", before
        )
    changes = list(_changes(before.inputs, input_fingerprint(nodule, order)))
    if changes:
        return PlannedAction(nodule, True, "; ".join(changes), before)
    if before.state == "refused":
        return PlannedAction(
            nodule, False, f"refused before, and nothing changed since: {before.reason}", before
        )
    if not is_done(store, nodule.id, str(before.digest)):
        return PlannedAction(nodule, True, "the store has lost its case", before)
    return PlannedAction(nodule, False, "done: same source, recipe and algorithm", before)


def exclude(store: Store, exclusions: tuple[Exclusion, ...]) -> None:
    """Record the nodules that the selection leaves out, each with its reason."""
    for one in exclusions:
        outcome = Outcome(one.nodule_id, one.patient_id, "refused", SELECTION, one.reason)
        if find_outcome(store, one.nodule_id) != outcome:
            write_outcome(store, outcome)


def _changes(before: dict[str, object], now: dict[str, object]) -> Iterator[str]:
    if before.get("algorithm") != now["algorithm"]:
        yield f"the algorithm changed: version {before.get('algorithm')} -> {ALGORITHM_VERSION}"
    yield from (
        f"the recipe changed: {line}" for line in _differences(before.get("recipe"), now["recipe"])
    )
    if before.get("stamp") != now["stamp"]:
        yield "the source's files or annotations changed"


def _differences(before: object, now: object, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield f"{name} {before} -> {now}"
