"""The context of a nodule that is being curated: its stage, times and outcome."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version

from matting.errors import InputError
from storage.cases.case import ALGORITHM_VERSION, is_done
from storage.cases.outcomes import find_outcome, write_outcome
from storage.errors import StoreError, UnavailableError
from storage.recipe import Recipe
from storage.records import (
    CandidateScores,
    JsonObject,
    LidcFacts,
    Outcome,
    SolverReport,
    State,
    TableFacts,
)
from storage.sources.base import Nodule, Source
from storage.sources.errors import SourceUnreachableError
from storage.sources.registry import SourceSpec, check_reachable, open_source
from storage.store import Store, open_store

logger = logging.getLogger("halosign")

STAGE_BEGINS = "stage begins"
"""The event that a stage logs as it begins."""

_RECORDED_PACKAGES = (
    "halosign",
    "numpy",
    "scipy",
    "SimpleITK",
    "numba",
    "zarr",
    "pydicom",
    "pylidc",
)


@dataclass(frozen=True, slots=True)
class CurationJob:
    """What all nodules of a run share; sent to the workers with each."""

    source: SourceSpec
    store_url: str
    recipe: Recipe


@dataclass(slots=True)
class NoduleContext:
    """One nodule that is being curated on one worker."""

    nodule: Nodule
    job: CurationJob
    inputs: JsonObject = field(default_factory=dict)
    stage: str = "scan"
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: LidcFacts | TableFacts = field(default_factory=lambda: TableFacts({}))
    """What the source tells of the nodule."""
    reports: dict[str, SolverReport] = field(default_factory=dict)
    scores: CandidateScores = field(default_factory=lambda: CandidateScores({}, {}, ()))
    errors: dict[str, float] | None = None
    """Of each matte against the known one; None where there is none."""
    digest: str | None = None
    synthetic: bool = False
    already_stored: bool = False
    """True where the store has the case that would be computed."""
    stored_bytes: int = 0
    unknown_voxels: int = 0
    patch_voxels: int = 0
    state: State = "failed"
    reason: str = ""
    transient: bool = False
    """True where the failure may disappear on a retry."""
    finished: Outcome | None = None
    """The last outcome that was done, once this one is written and is not."""
    retained: Outcome | None = None
    """The outcome that stays, because the source is away and the nodule was done before."""

    @property
    def store(self) -> Store:
        """The store to write to."""
        return _store(self.job.store_url)

    @property
    def source(self) -> Source:
        """The source to read from."""
        return open_source(self.job.source, self.recipe.source)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the job."""
        return self.job.recipe

    @contextmanager
    def timed_stage(self, stage: str) -> Iterator[None]:
        """Enter a stage, and record and log its wall time on exit."""
        self.stage = stage
        begun = {"event": STAGE_BEGINS, "nodule": self.nodule.id, "stage": stage}
        logger.debug("%s: %s", self.nodule.id, stage, extra=begun)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - begin, 4)
            logger.info(
                "stage",
                extra={"nodule": self.nodule.id, "stage": stage, "seconds": self.seconds[stage]},
            )

    @property
    def outcome(self) -> Outcome:
        """The outcome as it is returned to the client and written to the store."""
        return self.retained or Outcome(
            nodule_id=self.nodule.id,
            patient_id=self.nodule.patient_id,
            state=self.state,
            stage=self.stage,
            reason=self.reason,
            transient=self.transient,
            digest=self.digest,
            inputs=self.inputs,
            synthetic=self.synthetic,
            computed=self.state == "done" and not self.already_stored,
            seconds=self.seconds,
            stored_bytes=self.stored_bytes,
            unknown_voxels=self.unknown_voxels,
            patch_voxels=self.patch_voxels,
            versions=_versions(),
            form=self.recipe.form,
            finished=self.finished,
        )


@contextmanager
def nodule_context(nodule: Nodule, job: CurationJob) -> Iterator[NoduleContext]:
    """Turn whatever happens to one nodule into an outcome in the store.

    Invalid input (InputError) becomes `refused` and any other exception `failed`; neither is
    raised, so that no nodule affects another. Where the source is away, a nodule that was done
    stays done, and where all of the source is away, nothing is written.

    Args:
        nodule: The nodule to curate.
        job: What it shares with the other nodules of the run.

    Yields:
        The context, whose `outcome` is final once the block has ended.
    """
    context = NoduleContext(nodule, job)
    try:
        yield context
        context.state = "done"
        if context.already_stored:
            _restore_statistics(context)
    except Exception as error:
        _explain(context, error)
        unreachable = _find_unreachable(context, error)
        if unreachable and _stands(context, error, unreachable):
            return
    _write_outcome(context)


def _explain(context: NoduleContext, error: Exception) -> None:
    """Set state and reason from what was raised."""
    if isinstance(error, InputError):
        context.state = "refused"
        context.reason = str(error)
        return
    context.reason = f"{type(error).__name__}: {error}"
    logger.error(
        "nodule %s failed at stage %s: %s",
        context.nodule.id,
        context.stage,
        context.reason,
        # Errors of the store and the disk say it all; where they were raised tells a user nothing.
        exc_info=None if isinstance(error, StoreError | OSError) else error,
        extra={"nodule": context.nodule.id, "stage": context.stage},
    )
    context.transient = isinstance(error, UnavailableError | ConnectionError | TimeoutError)


def _find_unreachable(context: NoduleContext, error: Exception) -> str:
    """Return what of the source is away, in words; empty where another reason stopped the nodule.

    Libraries raise anything for a file that vanishes while they read, so the files are asked.
    """
    if isinstance(error, SourceUnreachableError):
        return str(error)
    if context.stage != "scan":
        return ""
    try:
        return context.source.find_unreachable(context.nodule) or _failed_to_read(error)
    except SourceUnreachableError as away:
        return str(away)


def _failed_to_read(error: BaseException | None) -> str:
    """Return the system's error that another one came from, in words; empty where there is none."""
    while error is not None:
        # The store's errors are not the source's, and one without a number is about the content.
        if isinstance(error, OSError) and not isinstance(error, StoreError) and error.errno:
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def _is_source_away(context: NoduleContext) -> bool:
    try:
        check_reachable(context.job.source)
    except SourceUnreachableError:
        return context.stage == "scan"
    return False


def _stands(context: NoduleContext, error: Exception, unreachable: str) -> bool:
    """Return whether the store keeps what it says of a nodule whose source is away.

    It does where the nodule was done before, with a note, and where all of the source is away.
    """
    is_source_away = _is_source_away(context)
    if not isinstance(error, InputError):
        context.reason = f"source not reachable: {unreachable}"
    if is_source_away or not isinstance(error, SourceUnreachableError):
        # Mounts and permissions come back without a trace in the fingerprint, so it is tried again.
        context.state = "failed"
    try:
        previous = find_outcome(context.store, context.nodule.id)
        if previous is None or previous.state != "done":
            return is_source_away
        context.retained = note_unreachable(previous)
        if not is_source_away:
            write_outcome(context.store, context.retained)
    except StoreError as failure:
        _fail(context, failure)
    return True


def note_unreachable(outcome: Outcome) -> Outcome:
    """Return a done outcome with the time since which its source is away; now for a new absence."""
    since = outcome.unreachable_since or datetime.now(UTC).isoformat(timespec="seconds")
    return replace(outcome, computed=False, unreachable_since=since)


def input_fingerprint(nodule: Nodule, job: CurationJob) -> JsonObject:
    """Return a description of the inputs of a case, computed without reading pixels.

    A later run compares it with its own to find out whether anything changed.
    """
    source = open_source(job.source, job.recipe.source)
    fingerprint = source.fingerprint(nodule, padding_slices=job.recipe.crop.padding_slices)
    return {
        "stamp": fingerprint,
        "recipe": _content_key(job.recipe),
        "algorithm": ALGORITHM_VERSION,
    }


def _restore_statistics(context: NoduleContext) -> None:
    """Copy times and sizes from the outcome of the run that computed the stored case."""
    previous = find_outcome(context.store, context.nodule.id)
    if previous is not None and previous.digest == context.digest:
        context.seconds = previous.seconds
        context.stored_bytes = previous.stored_bytes
        context.unknown_voxels = previous.unknown_voxels
        context.patch_voxels = previous.patch_voxels


def _write_outcome(context: NoduleContext) -> None:
    try:
        context.finished = write_outcome(context.store, context.outcome).finished
        if context.state == "done" and not _is_kept(context):
            context.state, context.transient = "failed", True
            context.reason = (
                "its case was removed while its outcome was written. Run `halosign curate` again."
            )
            context.finished = write_outcome(context.store, context.outcome).finished
    except StoreError as error:
        # The store cannot be told, so only the outcome returned to the client says so.
        _fail(context, error)


def _fail(context: NoduleContext, error: StoreError) -> None:
    context.state, context.retained = "failed", None
    context.reason = f"{type(error).__name__}: {error}"
    context.transient = isinstance(error, UnavailableError)


def _is_kept(context: NoduleContext) -> bool:
    """Return whether the finished case is there, now that its outcome refers to it.

    Until then it could have been garbage; see `storage.maintenance.gc`.
    """
    return context.digest is None or is_done(context.store, context.nodule.id, context.digest)


@lru_cache(maxsize=8)
def _content_key(recipe: Recipe) -> JsonObject:
    return recipe.content_key()


@lru_cache(maxsize=8)
def _store(url: str) -> Store:
    return open_store(url)


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _RECORDED_PACKAGES}
