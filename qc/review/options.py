"""The options of one case in the order in which one reviewer sees them.

A reviewer answers with a position on the screen. In blind mode and in studies the order is a
shuffle seeded by reviewer and case, so the server can turn the position back into a name without
storing anything.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from matting.targets import TARGETS, Target, rank, target_of
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
    shown_first: int
    """How many of the names, the first ones, are shown before the reviewer asks for all."""
    picked: str | None
    """The name that the automatic rule would pick; None where there is none."""

    @classmethod
    def of_study(cls, entry: CatalogueEntry, names: Sequence[str], *, seed: str) -> "OptionOrder":
        """Build the order of a study's options: shuffled by `seed`, all shown at once."""
        return cls(entry, shuffled(names, seed), True, len(names), None)

    @classmethod
    def of_review(
        cls, entry: CatalogueEntry, target: Target, *, seed: str, is_blind: bool
    ) -> "OptionOrder":
        """Build the order of a case's mattes: first those that answer the question, then the rest.

        Within each part in stored order, or shuffled by `seed` where the reviewer is blind.
        """
        answers = tuple(name for name in entry.methods if target_of(name) == target)
        others = tuple(name for name in entry.methods if target_of(name) != target)
        if is_blind:
            answers, others = shuffled(answers, seed), shuffled(others, seed)
        ranking = rank(entry.metrics, target)
        picked = ranking[0] if ranking else None
        return cls(entry, answers + others, is_blind, len(answers), picked)

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
        lowest = {target: self._lowest(target) for target in TARGETS}
        return tuple(
            self._option(position, name, mine, lowest[target_of(name)])
            for position, name in enumerate(self.names, 1)
        )

    def _option(
        self, position: int, name: str, mine: Verdict | None, lowest: dict[str, float | None]
    ) -> Option:
        entry = self.entry
        return Option(
            place=position,
            name="" if self.is_blind else name,
            why_missing=entry.missing.get(name, ""),
            is_pick=name == self.picked and not self.is_blind,
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

    def _lowest(self, target: Target) -> dict[str, float | None]:
        """Return the lowest value of each metric, of the mattes that answer one question."""
        answers = [v for name, v in self.entry.metrics.items() if target_of(name) == target]
        return {
            metric: min((values[metric] for values in answers if metric in values), default=None)
            for metric in SHOWN_METRICS
        }

    def _tied_with(self, name: str) -> tuple[int, ...]:
        tied = {other for group in self.entry.tied if name in group for other in group} - {name}
        return tuple(position for position, other in enumerate(self.names, 1) if other in tied)
