"""Verify what a store holds besides cases and outcomes: each file by its key."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from storage.cases.case import read_case_files, verify_files
from storage.cases.outcomes import find_outcome, map_concurrently
from storage.errors import CorruptionError, NotFoundError, StoreError
from storage.layout import (
    CASES,
    CHECKPOINTS,
    DECISIONS,
    EXPERIMENTS,
    METRICS,
    NETWORKS,
    QUARANTINE,
    RELEASES,
    RUNS,
    STUDIES,
    TRAININGS,
    claim_key,
    done_key,
    manifest_key,
    study_key,
)
from storage.maintenance.verify import LOST_CASE, Complaint, changed_file, complaint_of
from storage.records import (
    CheckpointConfig,
    Claim,
    Cost,
    ExperimentFacts,
    FileEntry,
    FileList,
    Manifest,
    Run,
    ScoreSummary,
    Study,
    TrainingEnd,
    Verdict,
    Withdrawal,
    encode,
    is_sealed,
    read_record,
)
from storage.releases.faults import find_release_faults
from storage.releases.release import WITHDRAWN, Release, list_versions
from storage.results.checkpoints import CONFIG, WEIGHTS, checkpoint_prefix, find_state
from storage.results.csv_rows import from_csv, is_sealed_csv
from storage.results.diagnoses import NoduleScore, RatedNodule
from storage.results.experiments import Averages
from storage.results.left_out import LeftOutRow, LeftOutScore
from storage.results.listed_files import FILE_LIST, forget_listed_file, verify_listed_files
from storage.results.scores import Score
from storage.reviews.verdicts import find_verdicts, read_verdict, record_verdict
from storage.store import Store

CHECKER = "store-check"
"""The reviewer who asks for a second look where a verdict was set aside."""
_TOP_FOLDERS = (
    RUNS,
    DECISIONS,
    STUDIES,
    CHECKPOINTS,
    NETWORKS,
    TRAININGS,
    METRICS,
    EXPERIMENTS,
)
_RESTORE = "Restore it from a backup."

Check = Callable[[Store, str], Iterator[Complaint]]


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """One file, or one release, and what is wrong with it."""

    key: str
    complaints: tuple[Complaint, ...]
    has_checksum: bool = True
    """False for the records and tables of earlier versions."""


def verify_records(store: Store) -> Iterator[VerifiedFile]:
    """Verify runs, verdicts, studies, releases, networks, trainings, scores and experiments."""
    keys = [key for folder in _TOP_FOLDERS for key in sorted(store.list_prefix(folder))]
    yield from map_concurrently(partial(_verify_file, store), keys)
    for complaint in _verify_relations(store, keys):
        yield VerifiedFile(complaint.about, (complaint,))
    yield from _verify_releases(store)


def _verify_file(store: Store, key: str) -> VerifiedFile:
    check = next((check for pattern, check in _CHECKS if pattern.fullmatch(key)), None)
    if check is None:
        return VerifiedFile(key, ())
    try:
        complaints = tuple(check(store, key))
    except NotFoundError:
        return VerifiedFile(key, ())  # removed meanwhile
    except StoreError as error:
        return VerifiedFile(key, (complaint_of(error, key, key),))
    try:
        has_checksum = _has_checksum(store, key)
    except (NotFoundError, CorruptionError):  # of what would know it
        has_checksum = False
    return VerifiedFile(key, complaints, has_checksum)


def _has_checksum(store: Store, key: str) -> bool:
    """Return whether a record or table carries its SHA-256, or another one knows it."""
    if key.endswith(".json"):
        return is_sealed(store.get(key))
    if not key.endswith(".csv") or is_sealed_csv(store.get(key)):
        return True
    path = PurePosixPath(key)
    if path.parent.parts[0] == EXPERIMENTS:
        return path.name in read_record(store, str(path.parent / FILE_LIST), FileList).files
    summary = read_record(store, str(path.with_suffix(".json")), ScoreSummary)
    return summary.table_sha256 is not None


def _record(kind: type[object]) -> Check:
    def check(store: Store, key: str) -> Iterator[Complaint]:
        read_record(store, key, kind)
        yield from ()

    return check


def _table(kind: type[object], *with_it: str) -> Check:
    """Check a table; `with_it` are files beside it that say that it is there."""

    def check(store: Store, key: str) -> Iterator[Complaint]:
        try:
            from_csv(kind, store.get(key), key)
        except CorruptionError as error:
            beside = (str(PurePosixPath(key).parent / name) for name in with_it)
            yield complaint_of(error, key, key, *beside)

    return check


def _scores(store: Store, key: str) -> Iterator[Complaint]:
    name = PurePosixPath(key).with_suffix(".json").name
    yield from _table(Score, name)(store, key)


def _summary(store: Store, key: str) -> Iterator[Complaint]:
    summary = read_record(store, key, ScoreSummary)
    table = str(PurePosixPath(key).with_suffix(".csv"))
    if summary.table_sha256 is None:
        return
    try:
        is_whole = hashlib.sha256(store.get(table)).hexdigest() == summary.table_sha256
    except NotFoundError:
        yield Complaint(key, f"{table} is missing", summary.remedy, (key,))
        return
    if not is_whole:
        wrong = f"{table}: the content is not what was written"
        yield Complaint(key, wrong, summary.remedy, (key, table))


def _verdict(store: Store, key: str) -> Iterator[Complaint]:
    try:
        read_verdict(store, key)
    except CorruptionError as error:
        complaint = complaint_of(error, key, key)
        nodule_id = key.split("/")[-2]
        remedy = f"Restore it from a backup, or set it aside and review {nodule_id} again."
        then = partial(_ask_for_a_second_look, nodule_id) if key.startswith(DECISIONS) else None
        yield replace(complaint, remedy=remedy, then=then)


def _ask_for_a_second_look(nodule_id: str, store: Store, folder: str) -> None:
    """Record a flag, since an earlier verdict may count now; it holds up publishing."""
    outcome = find_outcome(store, nodule_id)
    if outcome is None or not outcome.digest:
        return
    note = f"a damaged verdict was set aside in {folder}; review this nodule again"
    flag = Verdict(nodule_id, outcome.digest, "flag", None, CHECKER, automatic=True, note=note)
    record_verdict(store, flag)


def _study(store: Store, key: str) -> Iterator[Complaint]:
    study = read_record(store, key, Study)
    name = key.split("/")[1]
    if study.name != name:
        wrong = f"it is the plan of another study: got {study.name}, expected {name}"
        yield Complaint(key, wrong, _RESTORE, (key,))


def _config(store: Store, key: str) -> Iterator[Complaint]:
    config = read_record(store, key, CheckpointConfig)
    digest = key.split("/")[1]
    weights = f"{checkpoint_prefix(digest)}/{WEIGHTS}"
    try:
        sha256 = hashlib.sha256(store.get(weights)).hexdigest()
    except NotFoundError:
        yield Complaint(key, f"{weights} is missing", config.remedy, (key,))
        return
    if sha256 != config.weights_sha256:
        wrong = f"{weights}: the content is not what was written"
        yield Complaint(key, wrong, config.remedy, (key, weights))
    if config.digest != digest:
        wrong = f"it is of another network: got {config.digest}, expected {digest}"
        yield Complaint(key, wrong, config.remedy, (key,))


def _network(store: Store, key: str) -> Iterator[Complaint]:
    """Compare the files of a published network with their list; any damage sets aside all."""
    folder = key.removesuffix(f"/{CONFIG}")
    remedy = "Restore the network from a copy, or set it aside and publish it again."
    every = (key, *sorted(set(store.list_prefix(folder)) - {key}))
    try:
        wrongs = verify_listed_files(store, folder)
        read_record(store, key, CheckpointConfig)
    except NotFoundError:
        wrongs = [f"{folder}/{FILE_LIST}: missing"]
    except CorruptionError as error:
        yield replace(complaint_of(error, folder, *every), remedy=remedy)
        return
    for text in wrongs:
        yield Complaint(folder, text, remedy, every)


def _state(store: Store, key: str) -> Iterator[Complaint]:
    find_state(store, key.split("/")[1])
    yield from ()


def _listed(store: Store, key: str) -> Iterator[Complaint]:
    folder = key.removesuffix(f"/{FILE_LIST}")
    for wrong in verify_listed_files(store, folder):
        damaged = wrong.partition(": ")[0]
        name = damaged.removeprefix(f"{folder}/")
        # Inputs are made again once their own list is gone.
        made_from = (f"{folder}/inputs.json",) if name.startswith("inputs") else ()
        remedy = "Run the command that made it again."
        then = partial(_forget, folder, name)
        yield Complaint(key, wrong, remedy, (*changed_file(wrong), *made_from), then=then)


def _forget(folder: str, name: str, store: Store, _: str) -> None:
    forget_listed_file(store, folder, name)


_V = "[^/]+"
_CHECKS: tuple[tuple[re.Pattern[str], Check], ...] = tuple(
    (re.compile(pattern), check)
    for pattern, check in (
        (f"{RUNS}/{_V}\\.json", _record(Run)),
        (f"{DECISIONS}/{_V}/{_V}\\.json", _verdict),
        (f"{STUDIES}/{_V}/verdicts/{_V}/{_V}\\.json", _verdict),
        (f"{STUDIES}/{_V}/study\\.json", _study),
        (f"{CHECKPOINTS}/{_V}/{CONFIG}", _config),
        (f"{NETWORKS}/{_V}/{CONFIG}", _network),
        (f"{NETWORKS}/{_V}/{FILE_LIST}", _record(FileList)),
        (f"{TRAININGS}/{_V}/state\\.safetensors", _state),
        (f"{TRAININGS}/{_V}/checkpoint\\.json", _record(TrainingEnd)),
        (f"({TRAININGS}|{EXPERIMENTS})/.+/{FILE_LIST}", _listed),
        (f"{TRAININGS}/{_V}/{FILE_LIST}", _listed),
        (f"{METRICS}/{_V}/nodules-{_V}/{_V}/{_V}\\.csv", _table(Score)),
        (f"{METRICS}/{_V}/left-out-{_V}/{_V}\\.csv", _table(LeftOutScore)),
        (f"{METRICS}/{_V}/{_V}/{_V}\\.csv", _scores),
        (f"{METRICS}/{_V}/{_V}/{_V}\\.json", _summary),
        (f"{EXPERIMENTS}/{_V}/costs/{_V}\\.json", _record(Cost)),
        (f"{EXPERIMENTS}/{_V}/{_V}/table-[12]\\.csv", _table(Averages)),
        (f"{EXPERIMENTS}/{_V}/{_V}/table-3\\.csv", _table(Cost)),
        (f"{EXPERIMENTS}/{_V}/{_V}/left-out\\.csv", _table(LeftOutRow)),
        (f"{EXPERIMENTS}/{_V}/{_V}/facts\\.json", _record(ExperimentFacts)),
        (f"{EXPERIMENTS}/{_V}/diagnosis/{_V}/nodules\\.csv", _table(RatedNodule, "inputs.json")),
        (f"{EXPERIMENTS}/{_V}/diagnosis/{_V}/{_V}/{_V}\\.csv", _table(NoduleScore)),
    )
)
"""How a file is checked, by its key."""


def _verify_relations(store: Store, keys: Sequence[str]) -> Iterator[Complaint]:
    """Find what is missing that another record names."""
    present = set(keys)
    set_aside = {PurePosixPath(key).name for key in store.list_prefix(QUARANTINE)}
    folders = defaultdict(list)
    for key in keys:
        if re.fullmatch(f"({DECISIONS}|{STUDIES}/{_V}/verdicts)/{_V}/{_V}\\.json", key):
            folders[key.rpartition("/")[0]].append(key)
    for folder in sorted(folders):
        parts = folder.split("/")
        study = parts[1] if parts[0] == STUDIES else ""
        yield from _verify_order(store, folder, study, set_aside)
    for study in sorted({key.split("/")[1] for key in keys if key.startswith(f"{STUDIES}/")}):
        if study_key(study) not in present:
            wrong = f"{study_key(study)} is missing beside its verdicts"
            yield Complaint(study_key(study), wrong, _RESTORE)
    for key in keys:
        if re.fullmatch(f"{TRAININGS}/{_V}/checkpoint\\.json", key):
            yield from _verify_end(store, key, present)


def _verify_end(store: Store, key: str, present: set[str]) -> Iterator[Complaint]:
    """Find a training whose network is missing."""
    try:
        config = f"{checkpoint_prefix(read_record(store, key, TrainingEnd).digest)}/{CONFIG}"
    except StoreError:
        return  # said of the file itself
    if config not in present:
        yield Complaint(key, f"its network is missing: {config}", CheckpointConfig.remedy)


def _verify_order(
    store: Store, folder: str, study: str, set_aside: set[str]
) -> Iterator[Complaint]:
    """Find verdicts that another one follows and that are not there."""
    nodule_id = folder.rpartition("/")[2]
    found = find_verdicts(store, nodule_id, study)
    known = {verdict.id for verdict in found.verdicts}
    damaged = {PurePosixPath(error.key).name for error in found.damaged}
    for verdict in found.verdicts:
        lost = verdict.follows
        if lost and lost not in known:
            if any(name.endswith(f"-{lost}.json") for name in damaged | set_aside):
                continue
            wrong = f"the verdict {lost} is missing, which {verdict.id} follows"
            yield Complaint(folder, wrong, f"{_RESTORE[:-1]}, or review {nodule_id} again.")


def _verify_releases(store: Store) -> Iterator[VerifiedFile]:
    faults = find_release_faults(store)
    for fault in faults:
        aside = () if fault.is_lost or fault.is_foreign else (fault.key,)
        then = (
            partial(_claim_again, fault.version) if fault.key == claim_key(fault.version) else None
        )
        about = f"release {fault.version}"
        complaint = Complaint(about, fault.wrong, fault.remedy, aside, then=then)
        yield VerifiedFile(fault.key, (complaint,))
    bad = {fault.version for fault in faults}
    for version in store.list_dir(RELEASES)[0]:
        yield from _verify_withdrawal(store, version)
    for version in list_versions(store):
        if version not in bad:
            complaints = tuple(_release_complaints(store, version))
            sealed = is_sealed(store.get(manifest_key(version)))
            yield VerifiedFile(f"{RELEASES}/{version}", complaints, sealed)


def _claim_again(version: str, store: Store, _: str) -> None:
    """Claim a published version again, where its manifest proves itself."""
    try:
        data = store.get(manifest_key(version))
        manifest = read_record(store, manifest_key(version), Manifest)
    except (NotFoundError, CorruptionError):
        return
    if is_sealed(data):
        sha256 = hashlib.sha256(data).hexdigest()
        store.create(claim_key(version), encode(Claim(manifest.publisher, sha256)))


def _verify_withdrawal(store: Store, version: str) -> Iterator[VerifiedFile]:
    key = f"{RELEASES}/{version}/{WITHDRAWN}"
    try:
        read_record(store, key, Withdrawal)
    except NotFoundError:
        return
    except StoreError as error:
        complaint = complaint_of(error, f"release {version}", key)
        yield VerifiedFile(key, (replace(complaint, then=partial(_withdraw_again, version)),))


def _withdraw_again(version: str, store: Store, folder: str) -> None:
    """Keep a release withdrawn whose withdrawal was set aside."""
    reason = f"the record of its withdrawal was damaged and is set aside in {folder}"
    withdrawal = Withdrawal(version, reason, CHECKER, store.clock().isoformat(timespec="seconds"))
    store.create(f"{RELEASES}/{version}/{WITHDRAWN}", encode(withdrawal))


def _release_complaints(store: Store, version: str) -> Iterator[Complaint]:
    """Read a release's own files, and compare its cases' files with their marks."""
    release = Release.open(store, version)
    about = f"release {version}"
    own = {
        f"{RELEASES}/{version}/{name}": entry for name, entry in release.manifest.own_files.items()
    }
    for wrong in verify_files(store, own):
        yield Complaint(about, wrong, _RESTORE, changed_file(wrong))
    released: dict[tuple[str, str], dict[str, FileEntry]] = defaultdict(dict)
    for key, entry in release.manifest.case_files.items():
        _, nodule_id, digest, _ = key.split("/", 3)
        released[nodule_id, digest][key] = entry
    for (nodule_id, digest), files in released.items():
        try:
            is_same = read_case_files(store, nodule_id, digest) == files
        except NotFoundError:
            mark = done_key(nodule_id, digest)
            yield Complaint(about, f"{mark} is missing", LOST_CASE.format(mark=mark))
        except StoreError:
            continue  # the mark is damaged, which is said of the nodule
        else:
            if not is_same:
                wrong = f"its case {CASES}/{nodule_id}/{digest} has other files"
                yield Complaint(about, wrong, _RESTORE)
