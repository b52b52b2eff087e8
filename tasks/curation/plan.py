"""Planning of a run: each nodule of a source compared with its latest outcome in the store."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

from matting.kernel_cache import is_compiled
from matting.parameters import Form
from storage.cases.case import ALGORITHM_VERSION, find_incomplete
from storage.cases.outcomes import find_outcome, map_concurrently, write_outcome
from storage.records import SELECTION, Outcome
from storage.sources.base import Exclusion, Inventory, Nodule
from storage.sources.errors import SourceUnreachableError
from storage.sources.registry import open_source
from storage.store import Store
from tasks.curation.context import CurationJob, input_fingerprint, note_unreachable

TYPICAL_SECONDS = 2.1
TYPICAL_BYTES = 2_500_000
"""Of one nodule on one core, where the store has no finished ones: between the means of real
nodules from a table (2.6 s) and of whole scans as DICOM (1.6 s)."""
START_SECONDS = 8.0
COMPILE_SECONDS = 20.0
"""Of a run besides its nodules: servers, workers and report; and once on a machine, the kernels."""
LARGEST_PATCH_VOXELS = 4_500_000
LARGEST_UNKNOWN_VOXELS = 150_000
"""Of any nodule of LIDC-IDRI; the size that is assumed for a nodule that was not computed
before."""
PROCESS_BYTES = 560_000_000
PREPROCESS_BYTES_PER_VOXEL = 150
SOLVE_BYTES_PER_VOXEL = 30
SOLVE_BYTES_PER_UNKNOWN_VOXEL = 4_500
"""Peak memory of a worker: its libraries, and for a patch the larger of what preprocessing and what
the solvers allocate. `python -m benchmarks.memory` compares them with measurements of whole
nodules."""


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """Whether one nodule is to be computed, and why."""

    nodule: Nodule
    compute: bool
    reason: str
    previous: Outcome | None
    """Its latest outcome in the store, without inputs and versions."""
    unreachable: str = ""
    """Which of its files is away, where it was to be computed; empty where none is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do."""

    actions: tuple[PlannedAction, ...]
    exclusions: tuple[Exclusion, ...]
    expected_seconds: float
    """On one worker."""
    expected_bytes: float
    form: Form
    """Of the mattes that the recipe asks for."""
    finished_nodules: int
    """Number of finished nodules that the estimates are means of; 0 where typical values are
    used."""
    notes: tuple[str, ...] = ()
    """What was chosen or left out among the files of the source."""
    expected_peak_bytes: float = 0.0
    """Peak memory of one worker that computes one nodule at a time; 0 where nothing is to be
    computed."""

    @property
    def to_compute(self) -> tuple[Nodule, ...]:
        """The nodules to compute."""
        return tuple(action.nodule for action in self.actions if action.compute)

    @property
    def kept_without_source(self) -> tuple[PlannedAction, ...]:
        """The nodules that were finished before and whose source is away now."""
        return tuple(action for action in self.actions if action.unreachable and not action.compute)

    @property
    def unchanged(self) -> tuple[Outcome, ...]:
        """The latest outcomes of the nodules that are not computed again."""
        return tuple(
            action.previous for action in self.actions if action.previous and not action.compute
        )


def make_plan(store: Store | None, job: CurationJob, inventory: Inventory) -> Plan:
    """Decide for every nodule whether to compute it, and estimate time, size and memory.

    Args:
        store: Read by key, for the nodules of the inventory only; None where there is no store yet.
        job: The source and the recipe.
        inventory: The nodules of the source.

    Returns:
        One action per nodule, in the order of the inventory, with the estimates.

    Raises:
        SourceUnreachableError: The files of every nodule are away.
    """

    def plan_one(nodule: Nodule) -> PlannedAction:
        previous = find_outcome(store, nodule.id) if store else None
        action = plan_nodule(store, job, nodule, previous)
        return replace(action, previous=previous.brief) if previous else action

    actions = tuple(map_concurrently(plan_one, inventory.nodules))
    actions += _plan_absent(store, inventory)
    _check_reachable(job, actions, inventory)
    known = [action.previous for action in actions if action.previous]
    finished = [outcome for outcome in known if outcome.stored_bytes]
    seconds: float = TYPICAL_SECONDS
    size: float = TYPICAL_BYTES
    if finished:
        # Means, since sums are expected: a few large nodules take most of the time.
        seconds = statistics.fmean(sum(outcome.seconds.values()) for outcome in finished)
        size = statistics.fmean(outcome.stored_bytes for outcome in finished)
    to_compute = [action for action in actions if action.compute]
    return Plan(
        actions,
        inventory.exclusions,
        expected_seconds=len(to_compute) * seconds,
        expected_bytes=len(to_compute) * size,
        form=job.recipe.form,
        finished_nodules=len(finished),
        notes=inventory.notes,
        expected_peak_bytes=max((_peak_bytes(a.previous) for a in to_compute), default=0.0),
    )


def expected_wall_s(plan: Plan, workers: int) -> float:
    """Return how long a run on this machine is expected to take, in seconds.

    Args:
        plan: What it computes.
        workers: Processes that compute, one nodule at a time each.
    """
    if not plan.to_compute:
        return START_SECONDS
    busy = min(workers, len(plan.to_compute))
    compiling = 0.0 if is_compiled() else COMPILE_SECONDS
    return START_SECONDS + compiling + plan.expected_seconds / busy


def expected_peak_bytes(patch_voxels: int, unknown_voxels: int) -> float:
    """Return the expected peak memory of a process that computes one nodule, in bytes.

    Args:
        patch_voxels: Voxels of the isotropic patch.
        unknown_voxels: Those of them that the trimap leaves unknown.
    """
    preprocess = PREPROCESS_BYTES_PER_VOXEL * patch_voxels
    solve = SOLVE_BYTES_PER_VOXEL * patch_voxels + SOLVE_BYTES_PER_UNKNOWN_VOXEL * unknown_voxels
    return PROCESS_BYTES + max(preprocess, solve)


def _peak_bytes(previous: Outcome | None) -> float:
    """Use the size of the nodule where it was computed before, else that of the largest nodule."""
    if previous is None or not previous.patch_voxels:
        return expected_peak_bytes(LARGEST_PATCH_VOXELS, LARGEST_UNKNOWN_VOXELS)
    return expected_peak_bytes(previous.patch_voxels, previous.unknown_voxels)


def plan_nodule(
    store: Store | None, job: CurationJob, nodule: Nodule, previous: Outcome | None
) -> PlannedAction:
    """Decide whether to compute one nodule.

    One that was finished before is not computed while its source is away.

    Args:
        store: Asked whether the case of a nodule that is done still exists.
        job: The source and the recipe.
        nodule: The nodule.
        previous: Its latest outcome in the store; None where it has none.

    Returns:
        The decision with its reason.
    """
    action = _plan_reachable(store, job, nodule, previous)
    if not action.compute:
        return action
    source = open_source(job.source, job.recipe.source)
    unreachable = action.unreachable or source.find_unreachable(nodule)
    if unreachable and previous and previous.last_done:
        return _keep(nodule, previous, unreachable)
    return replace(action, unreachable=unreachable)


def _plan_reachable(
    store: Store | None, job: CurationJob, nodule: Nodule, previous: Outcome | None
) -> PlannedAction:
    """Decide as though every file could be opened."""
    if store is None or previous is None:
        return PlannedAction(nodule, True, "new: not in this store", previous)
    if previous.state == "failed":
        reason = f"failed at stage {previous.stage} in an earlier run: {previous.reason}"
        return PlannedAction(nodule, True, reason, previous)
    try:
        changes = list(_changes(previous.inputs, input_fingerprint(nodule, job)))
    except OSError as error:
        unreachable = f"{error.filename}: {error.strerror}"
        return PlannedAction(nodule, True, "its files cannot be listed", previous, unreachable)
    if changes:
        return PlannedAction(nodule, True, "; ".join(changes), previous)
    if previous.state == "refused":
        reason = f"invalid input, unchanged since: {previous.reason}"
        return PlannedAction(nodule, False, reason, previous)
    incomplete = find_incomplete(store, nodule.id, str(previous.digest))
    if incomplete:
        return PlannedAction(nodule, True, incomplete, previous)
    return PlannedAction(nodule, False, "up to date: same source, recipe and algorithm", previous)


def _keep(nodule: Nodule, previous: Outcome, unreachable: str) -> PlannedAction:
    reason = f"{note_unreachable(previous).note}: {unreachable}"
    return PlannedAction(nodule, False, reason, previous, unreachable)


def _plan_absent(store: Store | None, inventory: Inventory) -> tuple[PlannedAction, ...]:
    """Keep the nodules that were finished before and of which the source has no file now."""
    if store is None:
        return ()
    found = zip(
        inventory.absent,
        map_concurrently(lambda nodule: find_outcome(store, nodule.id), inventory.absent),
        strict=True,
    )
    return tuple(
        _keep(nodule, previous.brief, "the source has no file of it")
        for nodule, previous in found
        if previous and previous.last_done
    )


def _check_reachable(
    job: CurationJob, actions: tuple[PlannedAction, ...], inventory: Inventory
) -> None:
    """Raise SourceUnreachableError where no nodule has its files: then the source is away."""
    away = [action for action in actions if action.unreachable]
    if len(away) < len(actions) or not (away or inventory.absent):
        return
    count = len(inventory.nodules) + len(inventory.absent)
    first = f"{away[0].nodule.id}: {away[0].unreachable}" if away else inventory.absent[0].id
    raise SourceUnreachableError(
        "no nodule of the source is reachable",
        got=f"{count} nodules of {job.source.location} without their files, the first is {first}",
        expected="files that can be opened",
        remedy="Check the mount, the permissions and the paths, then run the same command again; "
        "what is stored was not touched.",
    )


def record_reachability(store: Store, plan: Plan) -> None:
    """Note in the outcomes of finished nodules since when their source is away, or that it is back.

    Args:
        store: Where the outcomes are.
        plan: What was found.
    """
    for action in plan.actions:
        known = bool(action.previous and action.previous.unreachable_since)
        if known == bool(action.unreachable) or action.compute:
            continue
        outcome = find_outcome(store, action.nodule.id)
        if outcome and outcome.state == "done":
            noted = note_unreachable(outcome)
            write_outcome(store, noted if action.unreachable else _reached(outcome))


def _reached(outcome: Outcome) -> Outcome:
    return replace(outcome, unreachable_since=None)


def record_exclusions(store: Store, exclusions: tuple[Exclusion, ...]) -> None:
    """Write an outcome for each excluded nodule, where the store does not have it yet."""

    def record(exclusion: Exclusion) -> None:
        outcome = Outcome(
            exclusion.nodule_id, exclusion.patient_id, "refused", SELECTION, exclusion.reason
        )
        known = find_outcome(store, exclusion.nodule_id)
        if known is None or replace(known, finished=None) != outcome:
            write_outcome(store, outcome)

    # An archive has twice as many of them as nodules to compute.
    for _ in map_concurrently(record, exclusions):
        pass


def _changes(previous: dict[str, object], current: dict[str, object]) -> Iterator[str]:
    """Yield the differences between two input fingerprints, in words."""
    if previous.get("algorithm") != current["algorithm"]:
        yield f"the algorithm changed: version {previous.get('algorithm')} -> {ALGORITHM_VERSION}"
    for line in _differences(previous.get("recipe"), current["recipe"]):
        yield f"the recipe changed: {line}"
    if previous.get("stamp") != current["stamp"]:
        yield "the source's files or annotations changed"


def _differences(previous: object, current: object, name: str = "") -> Iterator[str]:
    """Yield the values that differ between two nested mappings, by dotted name."""
    if isinstance(previous, dict) and isinstance(current, dict):
        for key in sorted(previous.keys() | current.keys()):
            dotted = f"{name}.{key}".lstrip(".")
            yield from _differences(previous.get(key), current.get(key), dotted)
    elif previous != current:
        yield f"{name} {previous} -> {current}"
