"""Errors against the known alpha by kind of lesion, for the methods and for trivial mattes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matting.parameters import FORM_NAMES, Form
from matting.targets import target_of
from qc.report.page import ErrorCell, ErrorTable, FormErrors, FormTable, KindErrors

BASELINES = {
    "readers_mean": "readers' mean mask",
    "best_reader": "best single reader",
    "hu_linear": "HU-linear",
}
"""Names of the trivial mattes, as stored and as shown. Choosing the best single reader needs
the truth, so it is a bound, not a method."""
ALL_KINDS = "all"


@dataclass(frozen=True, slots=True)
class NoduleErrors:
    """One nodule with a known alpha."""

    kind: str
    """Solid, part-solid, ground-glass or unrated."""
    errors: Mapping[str, float]
    """By method or trivial matte; without those that gave no matte."""
    pick: str | None
    """The chosen method."""

    @property
    def regret(self) -> float | None:
        """Error of the pick minus the smallest of the methods that answer the same question.

        None without a pick or its error.
        """
        picked = self.errors.get(self.pick) if self.pick else None
        if self.pick is None or picked is None:
            return None
        target = target_of(self.pick)
        return picked - min(
            error
            for name, error in self.errors.items()
            if name not in BASELINES and target_of(name) == target
        )


def error_table(nodules: Sequence[NoduleErrors], methods: tuple[str, ...]) -> ErrorTable | None:
    """Return mean errors by kind of lesion and over all; None if there are no nodules."""
    if not nodules:
        return None
    kinds = {
        kind: [n for n in nodules if n.kind == kind] for kind in sorted({n.kind for n in nodules})
    }
    if len(kinds) > 1:
        kinds[ALL_KINDS] = list(nodules)
    rows = tuple(_kind_errors(kind, members, methods) for kind, members in kinds.items())
    return ErrorTable(methods, tuple(BASELINES.values()), rows)


def form_table(
    errors: Mapping[Form, Sequence[Mapping[str, float]]], methods: Sequence[str]
) -> FormTable | None:
    """Return mean errors of each method in several forms, over the same nodules.

    Args:
        errors: By form, of each nodule: the errors against the known alpha by method or trivial
            matte. All forms have the same nodules in the same order.
        methods: Names of the methods, in the order of the rows.

    Returns:
        The table; None if there are no nodules. A method counts the nodules on which it converged
        in all forms.
    """
    nodules = list(zip(*errors.values(), strict=True))
    if not nodules:
        return None
    rows = []
    for name in (*methods, *BASELINES):
        common = [forms for forms in nodules if all(name in form for form in forms)]
        if common:
            means = tuple(
                fmean(form[name] for form in column) for column in zip(*common, strict=True)
            )
            rows.append(FormErrors(BASELINES.get(name, name), name in methods, len(common), means))
    return FormTable(tuple(FORM_NAMES[form] for form in errors), len(nodules), tuple(rows))


def _kind_errors(
    kind: str, members: Sequence[NoduleErrors], methods: tuple[str, ...]
) -> KindErrors:
    found = {
        name: [n.errors[name] for n in members if name in n.errors]
        for name in (*methods, *BASELINES)
    }
    means = {name: fmean(errors) for name, errors in found.items() if errors}
    trivial = min((means[name] for name in BASELINES if name in means), default=float("inf"))
    smallest = min(means.values(), default=None)
    cells = tuple(
        ErrorCell(
            error=means.get(name),
            nodules=len(errors),
            best=name in means and means[name] == smallest,
            behind_trivial=name in methods and means.get(name, 0.0) > trivial,
        )
        for name, errors in found.items()
    )
    regrets = [n.regret for n in members if n.regret is not None]
    return KindErrors(
        kind, len(members), cells, fmean(regrets) if regrets else None, _remark(means, methods)
    )


def _remark(means: Mapping[str, float], methods: Iterable[str]) -> str:
    """Return a sentence that compares the methods with the best trivial matte."""
    solved = {name: means[name] for name in methods if name in means}
    trivial = {name: means[name] for name in BASELINES if name in means}
    if not solved or not trivial:
        return "Nothing to compare."
    best = min(solved, key=solved.__getitem__)
    rival = min(trivial, key=trivial.__getitem__)
    against = f"the best trivial matte, {BASELINES[rival]} ({trivial[rival]:.3f})"
    losers = [name for name, error in solved.items() if error > trivial[rival]]
    if len(losers) == len(solved):
        return f"All methods are worse than {against}; the best is {best} ({solved[best]:.3f})."
    if losers:
        verb = "is" if len(losers) == 1 else "are"
        worse = f"{', '.join(losers)} {verb} worse than {against}"
        return f"{worse}; the best method is {best} ({solved[best]:.3f})."
    return f"No method is worse than {against}; the best is {best} ({solved[best]:.3f})."
