"""The options of one case in the order in which one reviewer sees them.

A reviewer answers with a position on the screen. In blind mode and in studies the order is a
shuffle seeded by reviewer and case, so the server can turn the position back into a name without
storing anything.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from qc.review.catalogue import CatalogueEntry
from qc.review.inputs import UnknownItemError, VerdictIn
from qc.review.pages import Metric, Option
from storage.records import Verdict

SHOWN_METRICS = ("cross_entropy", "compositing_residual", "slice_roughness", "mass_outside")
"""The metrics shown beside each candidate; lower is better in all of them."""


def shuffled(names: Sequence[str], seed: str) -> tuple[str, ...]:
    """Return the names shuffled; the same seed text always gives the same order."""
    return tuple(sorted(names, key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest()))


@dataclass(frozen=True, slots=True)
class OptionOrder:
    """The options of one case as one reviewer sees them."""

    entry: CatalogueEntry
    names: tuple[str, ...]
    """Methods or, in a study, readers and the matte; in screen order."""
    is_blind: bool

    @classmethod
    def build(
        cls, entry: CatalogueEntry, names: Sequence[str], *, seed: str, is_blind: bool
    ) -> "OptionOrder":
        """Build the order: as given, or shuffled by `seed` where the reviewer is blind."""
        return cls(entry, shuffled(names, seed) if is_blind else tuple(names), is_blind)

    def name_at(self, position: int | None) -> str:
        """Return the name of the option at a position (from 1); raise UnknownItemError if none."""
        if position is None or position > len(self.names):
            raise UnknownItemError(f"there is no option {position}")
        name = self.names[position - 1]
        if name in self.entry.missing:
            raise UnknownItemError(f"option {position} has no matte and cannot be chosen")
        return name

    def chosen_by(self, verdict_in: VerdictIn) -> str | None:
        """Return the name that a verdict chooses, or None if it is not a choice.

        Raises:
            UnknownItemError: There is no option at that position, or the verdict has a position or
                a reason that its kind does not take.
        """
        if verdict_in.verdict == "choose":
            if verdict_in.reason:
                raise UnknownItemError("a choice takes no reason")
            return self.name_at(verdict_in.place)
        if verdict_in.place is not None:
            raise UnknownItemError(f"{verdict_in.verdict} takes no option")
        if (verdict_in.verdict == "discard") != bool(verdict_in.reason):
            raise UnknownItemError("a discard needs a reason, and only a discard takes one")
        return None

    def options(self, mine: Verdict | None) -> tuple[Option, ...]:
        """Return what the page shows of each option, given the reviewer's own verdict."""
        lowest = {name: self._lowest(name) for name in SHOWN_METRICS}
        return tuple(
            self._option(position, name, mine, lowest)
            for position, name in enumerate(self.names, 1)
        )

    def _option(
        self, position: int, name: str, mine: Verdict | None, lowest: dict[str, float | None]
    ) -> Option:
        entry = self.entry
        rank = entry.ranking.index(name) + 1 if name in entry.ranking else None
        return Option(
            place=position,
            name="" if self.is_blind else name,
            why_missing=entry.missing.get(name, ""),
            rank=None if self.is_blind else rank,
            metrics=() if self.is_blind else self._metrics(name, lowest),
            tied_with=self._tied_with(name),
            is_mine=mine is not None and mine.choice == name,
        )

    def _metrics(self, name: str, lowest: dict[str, float | None]) -> tuple[Metric, ...]:
        values = self.entry.metrics.get(name, {})
        shown = []
        for metric in SHOWN_METRICS:
            value = values.get(metric)
            shown.append(Metric(value, is_best=value is not None and value == lowest[metric]))
        return tuple(shown)

    def _lowest(self, metric: str) -> float | None:
        known = [values[metric] for values in self.entry.metrics.values() if metric in values]
        return min(known, default=None)

    def _tied_with(self, name: str) -> tuple[int, ...]:
        tied = {other for group in self.entry.tied if name in group for other in group} - {name}
        return tuple(position for position, other in enumerate(self.names, 1) if other in tied)
