"""The queue: which nodules a reviewer sees, in which order, and what comes next."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from qc.review.catalogue import CatalogueEntry
from storage.reviews.consensus import Consensus

Show = Literal["todo", "undecided", "decided", "disputed", "tied", "flagged", "stale", "all"]
Sort = Literal["id", "largest", "smallest", "readers", "mattes"]
SHOW_WORDS: Mapping[Show, str] = {
    "todo": "to do by me",
    "undecided": "undecided",
    "decided": "decided",
    "disputed": "disputed",
    "tied": "with tied mattes",
    "flagged": "flagged",
    "stale": "decided before a change",
    "all": "all",
}
SORT_WORDS: Mapping[Sort, str] = {
    "id": "name",
    "largest": "largest first",
    "smallest": "smallest first",
    "readers": "readers differ most",
    "mattes": "mattes differ most",
}


class Query(BaseModel):
    """Filters and order, as they stand in a page's address."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    show: Show = "todo"
    patient: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    min_mm: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    max_mm: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 1000.0
    sort: Sort = "id"
    blind: bool = False

    @property
    def address(self) -> str:
        """Write it as the end of a page's address; empty for the defaults."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        return (
            "?" + urlencode({k: "1" if v is True else v for k, v in given.items()}) if given else ""
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One nodule of the queue."""

    entry: CatalogueEntry
    consensus: Consensus
    mine: str | None
    """What the reviewer said of this case."""
    warnings: tuple[str, ...]
    """Why it deserves a second look."""

    @property
    def state(self) -> str:
        """Say in one word where it stands."""
        if self.consensus.verdict is None:
            return "disputed" if self.consensus.is_disputed else "open"
        return "automatic" if self.consensus.verdict.automatic else "decided"


def make_row(entry: CatalogueEntry, consensus: Consensus, reviewer: str) -> Row:
    """Hold a nodule's verdicts against its reviewer."""
    vote = consensus.verdict_of(reviewer)
    return Row(entry, consensus, vote.choice if vote else None, tuple(_warnings(entry, consensus)))


def select(rows: Sequence[Row], query: Query) -> list[Row]:
    """Filter and sort."""
    return [row for row in in_order(rows, query) if matches(row, query)]


def in_order(rows: Sequence[Row], query: Query) -> list[Row]:
    """Sort; equal ones by name."""
    orders: dict[Sort, Callable[[Row], float]] = {
        "id": lambda _: 0.0,
        "largest": lambda row: -row.entry.size_mm,
        "smallest": lambda row: row.entry.size_mm,
        "readers": lambda row: -row.entry.readers_differ,
        "mattes": lambda row: -row.entry.mattes_differ,
    }
    return sorted(rows, key=lambda row: (orders[query.sort](row), row.entry.nodule_id))


def matches(row: Row, query: Query) -> bool:
    """Tell whether a nodule passes the filters."""
    entry, consensus = row.entry, row.consensus
    by_person = consensus.verdict is not None and not consensus.verdict.automatic
    shown: dict[Show, bool] = {
        "todo": not by_person and row.mine is None,
        "undecided": not by_person,
        "decided": by_person,
        "disputed": consensus.is_disputed,
        "tied": bool(entry.tied),
        "flagged": bool(row.warnings),
        "stale": bool(consensus.stale),
        "all": True,
    }
    near = query.min_mm <= entry.size_mm <= query.max_mm
    return shown[query.show] and near and query.patient.lower() in entry.patient.lower()


def neighbours(rows: Sequence[Row], query: Query, nodule_id: str) -> tuple[str | None, str | None]:
    """Give the nodules before and after one in the queue, which itself need not pass the filters any more."""
    ids = [
        row.entry.nodule_id
        for row in in_order(rows, query)
        if row.entry.nodule_id == nodule_id or matches(row, query)
    ]
    if nodule_id not in ids:
        return None, ids[0] if ids else None
    place = ids.index(nodule_id)
    return ids[place - 1] if place else None, ids[place + 1] if place + 1 < len(ids) else None


def _warnings(entry: CatalogueEntry, consensus: Consensus) -> list[str]:
    found = [
        f"{flag.reviewer} wants a second look" + (f": {flag.note}" if flag.note else "")
        for flag in consensus.flags
    ]
    found += [f"{method} gave no matte" for method in entry.missing]
    found += [f"{one.reviewer} decided an earlier case" for one in consensus.stale]
    return found
