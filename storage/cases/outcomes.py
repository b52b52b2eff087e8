"""Outcomes: what became of each nodule the last time it was looked at."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from storage.errors import CorruptionError, NotFoundError
from storage.layout import OUTCOMES, outcome_key
from storage.store import Store, canonical_json

State = Literal["done", "refused", "failed"]
T = TypeVar("T")
R = TypeVar("R")
_AT_ONCE = 32
_PORTION = 1024

SELECTION = "select"
"""The stage at which a nodule is left out by the recipe rather than refused for being unfit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One nodule's latest outcome; a small record, the only thing a worker sends back."""

    nodule_id: str
    patient_id: str
    state: State
    stage: str
    """Where it ended: the last stage, the stage that refused, or `select`."""
    reason: str = ""
    """Why it was refused or failed; empty when done."""
    passing: bool = False
    """True where the failure may pass by itself, so that trying again makes sense."""
    digest: str | None = None
    """The case's name, once the inputs were read."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """What was to be computed: the source's stamp, the recipe, the algorithm version."""
    stand_in: bool = False
    computed: bool = False
    """False where the store held the case already."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each stage."""
    stored_bytes: int = 0
    unknown_voxels: int = 0
    patch_voxels: int = 0
    """Of the isotropic patch; with `unknown_voxels` it decides how much memory the nodule takes."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def brief(self) -> "Outcome":
        """The same without what only the store needs: a client holds one of each nodule of a run."""
        return replace(self, inputs={}, versions={})

    @property
    def is_selection(self) -> bool:
        """Tell whether the recipe's selection left it out, which is no failure."""
        return self.stage == SELECTION


def write_outcome(store: Store, outcome: Outcome) -> None:
    """Record the latest outcome of a nodule, over the one before."""
    store.put(outcome_key(outcome.nodule_id), canonical_json(asdict(outcome)))


def read_outcome(store: Store, nodule_id: str) -> Outcome | None:
    """Read the latest outcome of a nodule; None where there is none or it is unreadable (it is then made anew)."""
    try:
        return Outcome(**store.get_json(outcome_key(nodule_id)))
    except (NotFoundError, CorruptionError, TypeError):
        return None


def read_outcomes(store: Store) -> Iterator[Outcome]:
    """Read every outcome, sorted by nodule id."""
    names = [name.removesuffix(".json") for name in store.children(OUTCOMES)[1]]
    yield from (
        outcome
        for outcome in side_by_side(lambda name: read_outcome(store, name), names)
        if outcome
    )


class OutcomeBook:
    """Every nodule's latest outcome in memory, in brief; one is read anew only where it was written anew."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[str, Outcome | None]] = {}

    def outcomes(self) -> list[Outcome]:
        """Give them as the store has them now, sorted by nodule id."""
        stamps = self._store.stamps(OUTCOMES)
        new = [name for name, stamp in stamps.items() if self._known.get(name, ("",))[0] != stamp]
        read = side_by_side(lambda name: read_outcome(self._store, name.removesuffix(".json")), new)
        fresh = {
            name: (stamps[name], found and found.brief)
            for name, found in zip(new, read, strict=True)
        }
        self._known = {name: fresh.get(name) or self._known[name] for name in sorted(stamps)}
        return [outcome for _, outcome in self._known.values() if outcome]


def side_by_side(action: Callable[[T], R], keys: Sequence[T]) -> Iterator[R]:
    """Do something with every key, in order, many at a time: on a bucket the wait is the network's."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # In portions, so that no more answers lie about than that.
        for start in range(0, len(keys), _PORTION):
            yield from pool.map(action, keys[start : start + _PORTION])
