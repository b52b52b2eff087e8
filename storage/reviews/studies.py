"""Studies: raters choose, blinded, among readers' masks and the released matte.

The plan of a study names the case and matte of every nodule and is written once, so that raters
who come weeks later see the same. Its verdicts are those of `storage.reviews.verdicts`, in a
folder of their own. (Wang et al., section 3.3.)
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from matting.errors import InputError
from storage.cases.case import read_case
from storage.cases.outcomes import read_outcomes
from storage.errors import AlreadyExistsError, NotFoundError
from storage.layout import STUDIES, is_safe_name, study_key
from storage.recipe import Recipe
from storage.records import Study, StudyItem, encode, read_record
from storage.releases.release import Release
from storage.reviews.consensus import find_consensus
from storage.reviews.verdicts import read_verdicts
from storage.store import Store

MATTE = "matte"
"""The option for the released matte; those for the readers' masks are ``reader-1`` and so on."""

_Candidate = tuple[str, str, str]
"""Nodule, digest and method."""


def plan_study(
    store: Store,
    name: str,
    *,
    nodules: int,
    raters: int,
    seed: int,
    recipe: Recipe,
    release: str = "",
    by: str = "",
) -> Study:
    """Draw a study's nodules at random; stores nothing.

    Args:
        store: Where cases and verdicts are.
        name: Of the study.
        nodules: How many are drawn.
        raters: How many people will choose.
        seed: Of the draw and the order of what is shown.
        recipe: Its `review` section joins the verdicts where no release is named.
        release: A published version, to draw from its nodules; empty to draw from all nodules with
            a chosen matte.
        by: Who makes the study.

    Raises:
        InputError: The name cannot be part of a key, or there are fewer nodules than asked for.
    """
    if not is_safe_name(name):
        raise InputError(
            "invalid name of a study",
            got=repr(name),
            expected="letters, digits, dots, dashes and underscores",
            remedy="Choose another name.",
        )
    pool = _released(store, release) if release else _chosen(store, recipe)
    if len(pool) < nodules:
        raise _too_few(len(pool), nodules, release)
    drawn = random.Random(f"halosign study {seed}").sample(pool, nodules)
    return Study(
        name=name,
        seed=seed,
        raters=raters,
        release=release,
        items=tuple(_item(store, *candidate) for candidate in sorted(drawn)),
        created_by=by,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def create_study(store: Store, study: Study) -> None:
    """Store a study's plan; raises InputError where the name is used already."""
    try:
        store.create(study_key(study.name), encode(study))
    except AlreadyExistsError:
        raise InputError(
            "a study's plan is written only once",
            got=f"{study.name}, which exists already",
            expected="a new name",
            remedy="Choose another name; `halosign review study report` lists the studies.",
        ) from None


def read_study(store: Store, name: str) -> Study:
    """Read a study's plan; raises InputError where there is none, or CorruptionError."""
    try:
        if is_safe_name(name):
            return read_record(store, study_key(name), Study)
    except NotFoundError:
        pass
    raise InputError(
        "there is no such study",
        got=name,
        expected=f"one of: {', '.join(list_studies(store)) or 'none yet'}",
        remedy="Create one with `halosign review study create`.",
    )


def list_studies(store: Store) -> list[str]:
    """List the names of all studies."""
    return [name for name in store.list_dir(STUDIES)[0] if store.exists(study_key(name))]


def raters_of(reviewers: Sequence[str], limit: int) -> tuple[str, ...]:
    """Return who takes part: the first to choose, in that order.

    Args:
        reviewers: Of each verdict, in the order in which they were given.
        limit: How many take part.
    """
    return tuple(dict.fromkeys(reviewers))[:limit]


def _released(store: Store, version: str) -> list[_Candidate]:
    members = Release.open(store, version).members.values()
    return sorted((member.nodule_id, member.digest, member.method) for member in members)


def _chosen(store: Store, recipe: Recipe) -> list[_Candidate]:
    found = []
    for outcome in read_outcomes(store):
        if outcome.state != "done" or not outcome.digest:
            continue
        verdicts = read_verdicts(store, outcome.nodule_id)
        verdict = find_consensus(verdicts, outcome.digest, recipe.review).verdict
        if verdict is not None and verdict.method:
            found.append((outcome.nodule_id, outcome.digest, verdict.method))
    return sorted(found)


def _item(store: Store, nodule_id: str, digest: str, method: str) -> StudyItem:
    case = read_case(store, nodule_id, digest)
    readers = [f"reader-{number}" for number in range(1, case.reader_count + 1)]
    return StudyItem(nodule_id, digest, method, (*readers, MATTE), case.facts.synthetic)


def _too_few(got: int, asked: int, release: str) -> InputError:
    return InputError(
        "there are too few nodules for the study",
        got=f"{got} with a chosen matte in {release or 'the store'}",
        expected=f"{asked}",
        remedy=f"Use --nodules {got}, or review more nodules."
        if got
        else "Review some nodules: `halosign review`.",
    )
