"""Which cases the records of a store refer to; what garbage collection must keep.

Records are read strictly: one that cannot be read may refer to anything, so it raises
CorruptionError, which names it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from storage.cases.outcomes import map_concurrently
from storage.errors import CorruptionError, NotFoundError
from storage.layout import (
    CASES,
    CHECKPOINTS,
    DECISIONS,
    OUTCOMES,
    QUARANTINE,
    STUDIES,
    outcome_key,
    study_key,
    study_verdicts_prefix,
)
from storage.records import CheckpointConfig, Outcome, Study, read_record
from storage.releases.faults import ReleaseFault, find_release_faults
from storage.releases.release import Release, list_versions
from storage.results.checkpoints import CONFIG, checkpoint_prefix
from storage.reviews.verdicts import read_verdicts
from storage.store import Store

_SET_ASIDE = re.compile(
    rf"{QUARANTINE}/[^/]+/(?:{OUTCOMES}|{DECISIONS}|{STUDIES}/[^/]+/verdicts)/([^/]+?)(?:\.json|/.*)"
)
"""Keys of outcomes and verdicts that were set aside, with their nodule."""

Digests = dict[str, set[str]]
"""Digests of cases by nodule id."""


@dataclass(frozen=True, slots=True)
class SharedReferences:
    """What the records that concern many nodules refer to."""

    digests: Digests
    """By plans of studies and manifests of releases."""
    studies: tuple[str, ...]
    unknown: tuple[str, ...]
    """Complaints about releases whose manifest is not there; what they refer to is not known."""
    incomplete: frozenset[str]
    """Nodules of which a record was damaged and set aside; what it refers to is not known."""


@dataclass(frozen=True, slots=True)
class NoduleReferences:
    """What the records of one nodule, and the shared ones, refer to."""

    needed: frozenset[str]
    """Digests of cases that were finished."""
    attempted: str | None
    """Digest of the case that the latest outcome was about; it need not be finished."""
    is_known: bool
    """False where a record that should name the nodule's finished case is lost: the outcome, or
    the case that another record names. Then every finished case of the nodule may be needed."""

    def protects(self, digest: str, *, is_finished: bool) -> bool:
        """Return whether a case must stay; incomplete files of an attempt need not."""
        return digest in self.needed or (is_finished and digest == self.attempted)


def read_shared_references(store: Store) -> SharedReferences:
    """Read the plans of studies, the claims and manifests of releases, and the checkpoints.

    Raises:
        CorruptionError: One cannot be read, or a manifest is not the one that was published.
    """
    faults = find_release_faults(store)
    for fault in faults:
        if not fault.is_lost:
            raise CorruptionError(f"{store.url}/{fault.wrong}. {fault.remedy}", key=fault.key)
    digests: Digests = defaultdict(set)
    versions = list_versions(store)
    for version in versions:
        for member in Release.open(store, version).members.values():
            digests[member.nodule_id].add(member.digest)
    studies = tuple(store.list_dir(STUDIES)[0])
    for name in studies:
        plan = _find_plan(store, name)
        for item in plan.items if plan else ():
            digests[item.nodule_id].add(item.digest)
    return SharedReferences(
        digests, studies, _unknown(store, faults, versions), frozenset(_incomplete(store))
    )


def _incomplete(store: Store) -> Iterator[str]:
    for key in store.list_prefix(QUARANTINE):
        match = _SET_ASIDE.fullmatch(key)
        if match:
            yield match[1]


def read_nodule_references(
    store: Store, nodule_id: str, shared: SharedReferences
) -> NoduleReferences:
    """Read the outcome of a nodule and the verdicts on it.

    Args:
        store: Where they are.
        nodule_id: The nodule.
        shared: What other records refer to.

    Raises:
        CorruptionError: One of them cannot be read, or is of another nodule.
    """
    outcome = _find_outcome(store, nodule_id)
    done = outcome.last_done if outcome else None
    finished = {str(done.digest)} if done else set()
    for study in ("", *shared.studies):
        verdicts = read_verdicts(store, nodule_id, study)
        finished |= {verdict.digest for verdict in verdicts}
    finished |= shared.digests.get(nodule_id, set())
    marks = {
        name.removesuffix(".done")
        for name in store.list_dir(f"{CASES}/{nodule_id}")[1]
        if name.endswith(".done")
    }
    return NoduleReferences(
        frozenset(finished),
        outcome.digest if outcome else None,
        is_known=outcome is not None and finished <= marks and nodule_id not in shared.incomplete,
    )


def read_references(store: Store, shared: SharedReferences) -> dict[str, NoduleReferences]:
    """Read the outcomes and verdicts of all nodules; raises CorruptionError.

    Args:
        store: Where they are.
        shared: What other records refer to.
    """
    names = _nodules(store, shared.studies)
    found = map_concurrently(lambda name: read_nodule_references(store, name, shared), names)
    return dict(zip(names, found, strict=True))


def _nodules(store: Store, studies: Iterable[str]) -> list[str]:
    """List the nodules that have a case, an outcome or a verdict."""
    names = {
        name.removesuffix(".json") for name in store.list_dir(OUTCOMES)[1] if name.endswith(".json")
    }
    for prefix in (CASES, DECISIONS, *map(study_verdicts_prefix, studies)):
        names |= set(store.list_dir(prefix)[0])
    return sorted(names)


def _find_outcome(store: Store, nodule_id: str) -> Outcome | None:
    key = outcome_key(nodule_id)
    try:
        outcome = read_record(store, key, Outcome)
    except NotFoundError:
        return None
    for record in (outcome, outcome.last_done or outcome):
        if record.nodule_id != nodule_id:
            raise CorruptionError(
                f"{key} is of another nodule: got {record.nodule_id}, expected {nodule_id}. "
                f"{Outcome.remedy}",
                key=key,
            )
    return outcome


def _find_plan(store: Store, name: str) -> Study | None:
    key = study_key(name)
    try:
        return read_record(store, key, Study)
    except NotFoundError as error:
        if not any(store.list_prefix(study_verdicts_prefix(name))):
            return None  # an empty folder is no study
        raise CorruptionError(
            f"{store.url}/{key} is missing beside its verdicts. Restore it from a backup, or "
            "remove the folder of the study.",
            key=key,
        ) from error


def _unknown(
    store: Store, faults: Iterable[ReleaseFault], versions: Iterable[str]
) -> tuple[str, ...]:
    """Return complaints about what refers to cases that no record names."""
    found = [str(fault) for fault in faults]
    for digest in store.list_dir(CHECKPOINTS)[0]:
        key = f"{checkpoint_prefix(digest)}/{CONFIG}"
        if not store.exists(key):  # still being written, or interrupted; it is written last
            continue
        release = read_record(store, key, CheckpointConfig).release
        if release not in versions:
            found.append(
                f"{key}: its release {release} is not in this store. Restore the release, or "
                "move the checkpoint away."
            )
    return tuple(found)
