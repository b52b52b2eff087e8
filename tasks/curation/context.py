"""The record that a nodule's way through the stages leaves: where it is, how long each stage took, how it ended."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version

from matting.errors import InputError
from storage.cases.case import ALGORITHM_VERSION
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
from storage.sources.registry import SourceSpec, open_source
from storage.store import Store, open_store

logger = logging.getLogger("halosign")

_PACKAGES = (
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
    """What all nodules of a run share; travels with each."""

    source: SourceSpec
    store_url: str
    recipe: Recipe


@dataclass(slots=True)
class NoduleContext:
    """One nodule under way on one worker."""

    nodule: Nodule
    order: CurationJob
    inputs: JsonObject = field(default_factory=dict)
    stage: str = "scan"
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: LidcFacts | TableFacts = field(default_factory=lambda: TableFacts({}))
    """What the source tells of the nodule."""
    reports: dict[str, SolverReport] = field(default_factory=dict)
    scores: CandidateScores = field(default_factory=lambda: CandidateScores({}, {}, (), ()))
    errors: dict[str, float] | None = None
    """Of each matte against the known one; None where there is none."""
    digest: str | None = None
    synthetic: bool = False
    already_stored: bool = False
    """True where the store holds the very case that would be computed."""
    stored_bytes: int = 0
    unknown_voxels: int = 0
    patch_voxels: int = 0
    state: State = "failed"
    reason: str = ""
    transient: bool = False

    @property
    def store(self) -> Store:
        """The store to write to."""
        return _store(self.order.store_url)

    @property
    def source(self) -> Source:
        """The source to read from."""
        return open_source(self.order.source)

    @property
    def recipe(self) -> Recipe:
        """The recipe to follow."""
        return self.order.recipe

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Note the stage and its wall time."""
        self.stage, begin = stage, time.perf_counter()
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
        """The small record that goes back to the client and into the store."""
        return Outcome(
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
        )


@contextmanager
def nodule_context(nodule: Nodule, order: CurationJob) -> Iterator[NoduleContext]:
    """Follow one nodule: whatever happens inside ends as an outcome in the store and costs no other nodule."""
    record = NoduleContext(nodule, order)
    try:
        record.inputs = input_fingerprint(nodule, order)
        yield record
        record.state = "done"
        if record.already_stored:
            _recall(record)
    except InputError as refusal:
        record.state, record.reason = "refused", str(refusal)
    except Exception as error:
        logger.exception(
            "nodule %s failed at stage %s",
            nodule.id,
            record.stage,
            extra={"nodule": nodule.id, "stage": record.stage},
        )
        record.reason = f"{type(error).__name__}: {error}"
        record.transient = isinstance(error, UnavailableError | ConnectionError | TimeoutError)
    _remember(record)


def input_fingerprint(nodule: Nodule, order: CurationJob) -> JsonObject:
    """Describe cheaply what would be computed, so that a later run can tell whether anything changed."""
    fingerprint = open_source(order.source).fingerprint(
        nodule, padding_slices=order.recipe.crop.padding_slices
    )
    return {
        "stamp": fingerprint,
        "recipe": _content_key(order.recipe),
        "algorithm": ALGORITHM_VERSION,
    }


def _recall(record: NoduleContext) -> None:
    """Keep what is known of how the stored case was made; this time nothing was computed."""
    before = find_outcome(record.store, record.nodule.id)
    if before is not None and before.digest == record.digest:
        record.seconds, record.stored_bytes = before.seconds, before.stored_bytes
        record.unknown_voxels, record.patch_voxels = before.unknown_voxels, before.patch_voxels


def _remember(record: NoduleContext) -> None:
    try:
        write_outcome(record.store, record.outcome)
    except StoreError as error:
        # The client hears of it through the returned outcome; the store does not take it now.
        record.state, record.reason = "failed", f"{type(error).__name__}: {error}"
        record.transient = isinstance(error, UnavailableError)


@lru_cache(maxsize=8)
def _content_key(recipe: Recipe) -> JsonObject:
    return recipe.content_key()


@lru_cache(maxsize=8)
def _store(url: str) -> Store:
    return open_store(url)


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}
