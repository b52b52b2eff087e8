"""Draft of a release: the chosen mattes, checked for publication."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from matting.errors import InputError
from matting.targets import target_of
from storage.cases.case import Case, read_case, read_case_files, verify_files
from storage.cases.outcomes import UNREADABLE, read_outcomes
from storage.layout import is_nodule_id
from storage.recipe import Recipe
from storage.records import UNSTATED, About, Member, Outcome, TableFacts, Verdict
from storage.releases.card import dataset_card
from storage.releases.contents import ReleaseContents
from storage.releases.diff import Members, changes_page, diff_releases, find_predecessor
from storage.releases.index import index_table, split_table
from storage.releases.metadata import metadata_files
from storage.releases.release import Draft, check_version
from storage.releases.splits import assign_split
from storage.releases.statistics import NoduleStatistics, nodule_statistics, statistics_files
from storage.reviews.consensus import find_consensus
from storage.reviews.verdicts import read_verdicts
from storage.sources.table_rows import SCALE_COLUMNS
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Decided:
    """One finished nodule with its verdict."""

    outcome: Outcome
    verdict: Verdict
    case: Case


def draft_release(
    store: Store,
    version: str,
    recipe: Recipe,
    about: About = UNSTATED,
    on_step: Callable[[str, int, int], None] = lambda _, __, ___: None,
) -> Draft:
    """Collect the cases with a verdict and check each of them.

    Args:
        store: Holds cases and verdicts.
        version: The version to publish.
        recipe: The recipe by which the cases were curated.
        about: Who makes it and under which terms; what it leaves out is as in the release before.
        on_step: Called with what is being done, the steps of it that are done, and their number.

    Returns:
        What the release will contain.

    Raises:
        InputError: A check failed; the message names the first nodules and the remedy.
    """
    check_version(version)
    decided = _decided(store, recipe)
    chosen = [one for one in decided if one.verdict.verdict == "choose"]
    _refuse_if(
        "every nodule was discarded",
        [] if chosen else ["all"],
        "A release needs at least one nodule.",
    )
    target = recipe.review.target
    _refuse_if(
        f"automatic picks answer another question than {target}",
        [
            f"{one.outcome.nodule_id} ({one.verdict.method})"
            for one in chosen
            if one.verdict.automatic and target_of(str(one.verdict.method)) != target
        ],
        "Run `halosign review auto` with this recipe, or set its `review.target`.",
    )
    facts = {one.outcome.nodule_id: one.case.facts for one in chosen}
    _check_facts([one.case for one in chosen], recipe)
    files = {
        key: entry
        for one in chosen
        for key, entry in read_case_files(store, one.case.nodule_id, one.case.digest).items()
    }
    _refuse_if(
        "stored files are damaged",
        verify_files(store, files, partial(on_step, "files verified")),
        "Set the cases aside with `halosign store check --repair` and curate again.",
    )
    _refuse_if(
        "mattes are unfit for release",
        list(_unfit(chosen)),
        "Choose another method for these nodules, or discard them.",
    )
    members = tuple(_member(one, recipe) for one in chosen)
    discarded = tuple(one.outcome.nodule_id for one in decided if one not in chosen)
    decided_at = max(one.verdict.decided_at for one in chosen)
    before = find_predecessor(store, version)
    about = about.over(before.about if before else UNSTATED)
    whole = ReleaseContents(
        version, members, discarded, facts, recipe.content_key(), decided_at, target, about
    )
    statistics: list[NoduleStatistics] = []
    for one, member in zip(chosen, members, strict=True):
        on_step("nodules measured", len(statistics), len(chosen))
        statistics.append(nodule_statistics(one.case, member.method, member.split))
    own = {
        "README.md": dataset_card(whole),
        "index.parquet": index_table(members, facts, statistics),
        "splits.csv": split_table(members),
    }
    own |= metadata_files(whole, own) | statistics_files(statistics)
    after = Members(version, {member.nodule_id: member for member in members}, target)
    own["CHANGES.md"] = changes_page(
        version, diff_releases(store, before, after) if before else None
    )
    return Draft(members, discarded, files, own, recipe.model_dump(mode="json"), about)


def _decided(store: Store, recipe: Recipe) -> list[Decided]:
    """Return every finished nodule with the consensus of the verdicts on its current case."""
    outcomes = list(read_outcomes(store))
    _refuse_if(
        "outcomes are damaged",
        [outcome.nodule_id for outcome in outcomes if outcome.stage == UNREADABLE],
        "Run `halosign curate` again, which writes them again.",
    )
    finished = {o.nodule_id: o for o in outcomes if o.state == "done" and o.digest}
    _refuse_if(
        "the store has no finished nodule",
        [] if finished else ["none"],
        "Run `halosign curate` first.",
    )
    consensus = {
        name: find_consensus(read_verdicts(store, name), str(outcome.digest), recipe.review)
        for name, outcome in finished.items()
    }
    undecided = sorted(
        name for name, one in consensus.items() if one.verdict is None and not one.is_disputed
    )
    _refuse_if(
        "nodules have no verdict",
        undecided,
        "Review them, or choose automatically with `halosign review auto`.",
    )
    _refuse_if(
        "verdicts were damaged and set aside",
        sorted(name for name, one in consensus.items() if one.awaits_review),
        "Review these nodules again: an earlier verdict would count.",
    )
    disputed = sorted(name for name, one in consensus.items() if one.verdict is None)
    _refuse_if(
        "reviewers disagree",
        disputed,
        f"Settle the disputes; the consensus rule of the recipe is `{recipe.review.rule}`.",
    )
    return [
        Decided(outcome, one.verdict, read_case(store, name, str(outcome.digest)))
        for name, outcome in finished.items()
        if (one := consensus[name]).verdict is not None
    ]


def _check_facts(cases: list[Case], recipe: Recipe) -> None:
    """Raise InputError for cases of another recipe, and for attributes that are not public."""
    content_key = recipe.content_key()
    others = [case.nodule_id for case in cases if case.facts.recipe != content_key]
    remedy = "Use the recipe of `halosign curate`, or finish a curation with this one."
    _refuse_if(f"cases were computed with another recipe than {recipe.name}", others, remedy)
    unpublishable = sorted({name for case in cases for name in case.unknown_facts})
    _refuse_if(
        "cases have attributes that must not be published",
        unpublishable,
        "Curate them again with this version of Halosign.",
    )
    allowed = {*recipe.source.keep, *SCALE_COLUMNS}
    columns = sorted({name for case in cases for name in _columns(case)} - allowed)
    _refuse_if(
        "cases hold columns of a table that the recipe does not keep",
        columns,
        "Name the columns that may be published in `source.keep`, or curate again without them.",
    )
    # Patients of earlier versions could have any name; it is not repeated here
    _refuse_if(
        "patients have names that are no ids and may identify them",
        sorted(case.nodule_id for case in cases if not is_nodule_id(case.facts.patient)),
        "Rename the patients of these nodules in the table, or curate with --pseudonymize.",
    )


def _columns(case: Case) -> tuple[str, ...]:
    source = case.facts.source
    return tuple(source.columns) if isinstance(source, TableFacts) else ()


def _unfit(chosen: list[Decided]) -> Iterator[str]:
    """Yield the chosen mattes that are missing, not finite, out of range or constant."""
    for one in chosen:
        method = str(one.verdict.method)
        name = f"{one.outcome.nodule_id} ({method})"
        if method not in one.case.methods:
            yield f"{name}: no such matte"
            continue
        alpha = one.case.alpha(method)
        if (
            not np.isfinite(alpha).all()
            or alpha.min() < 0
            or alpha.max() > 1
            or alpha.min() == alpha.max()
        ):
            yield f"{name}: not within 0..1, or constant"


def _member(one: Decided, recipe: Recipe) -> Member:
    return Member(
        nodule_id=one.outcome.nodule_id,
        patient_id=one.outcome.patient_id,
        digest=one.case.digest,
        method=str(one.verdict.method),
        reviewer=one.verdict.reviewer,
        automatic=one.verdict.automatic,
        split=assign_split(one.outcome.patient_id, recipe.release),
        synthetic=one.outcome.synthetic,
        form=one.case.facts.form,
    )


def _refuse_if(complaint: str, offenders: list[str], remedy: str) -> None:
    if offenders:
        more = f" and {len(offenders) - 5} more" if len(offenders) > 5 else ""
        raise InputError(
            complaint, got="; ".join(offenders[:5]) + more, expected="none", remedy=remedy
        )
