"""Clinicians' studies: raters choose, blinded, among the readers' masks and the released matte of random nodules.

A study's plan names every nodule's case and matte and is written once, so that raters who come weeks later see the
same. Its verdicts are those of `storage.reviews.verdicts`, in a place of their own. (Wang et al., section 3.3.)
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from matting.errors import InputError
from storage.cases.case import read_case
from storage.cases.outcomes import read_outcomes
from storage.errors import AlreadyExistsError, CorruptionError, NotFoundError
from storage.layout import STUDIES, is_safe_name, study_key
from storage.recipe import Recipe
from storage.releases.release import read_release
from storage.reviews.consensus import find_consensus
from storage.reviews.verdicts import read_verdicts
from storage.store import Store, canonical_json

MATTE = "matte"
"""What a study calls the released matte; the readers' masks are ``reader-1`` and so on."""


@dataclass(frozen=True, slots=True)
class StudyItem:
    """One nodule of a study."""

    nodule_id: str
    digest: str
    """The case that is shown."""
    method: str
    """The matte that is held against the readers' masks."""
    options: tuple[str, ...]
    """What a rater chooses from."""
    stand_in: bool


@dataclass(frozen=True, slots=True)
class Study:
    """A study's plan."""

    name: str
    seed: int
    raters: int
    """So many people take part; the first to choose are in."""
    release: str
    """The release that the mattes are of; empty where they are those that stood at the time."""
    items: tuple[StudyItem, ...]
    created_by: str
    created_at: str
    """UTC, ISO 8601."""

    def item(self, nodule_id: str) -> StudyItem | None:
        """Give a nodule's part; None where it is not in the study."""
        return next((item for item in self.items if item.nodule_id == nodule_id), None)


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
    """Draw a study's nodules at random from a release, or from all whose matte stands; stores nothing.

    Args:
        store: Where cases and decisions lie.
        name: Of the study.
        nodules: How many are drawn.
        raters: How many people will choose.
        seed: Decides the draw and the order of what is shown.
        recipe: Its `review` section says which verdict stands where no release is named.
        release: A published version.
        by: Who makes the study.

    Raises:
        InputError: The name cannot stand in a path, or there are fewer nodules than asked for.
    """
    if not is_safe_name(name):
        raise InputError(
            "a study cannot be called this",
            got=repr(name),
            expected="letters, digits, dots, dashes and underscores",
            remedy="Choose another name.",
        )
    pool = _released(store, release) if release else _standing(store, recipe)
    if len(pool) < nodules:
        raise InputError(
            "there are too few nodules for the study",
            got=f"{len(pool)} with a chosen matte in {release or 'the store'}",
            expected=f"{nodules}",
            remedy=f"Ask for --nodules {len(pool)}, or decide more."
            if pool
            else "Decide some: `halosign review`.",
        )
    drawn = random.Random(f"halosign study {seed}").sample(pool, nodules)
    items = tuple(_item(store, *one) for one in sorted(drawn))
    return Study(
        name, seed, raters, release, items, by, datetime.now(UTC).isoformat(timespec="seconds")
    )


def create_study(store: Store, study: Study) -> None:
    """Store a study's plan; raises InputError where the name is taken."""
    try:
        store.create(study_key(study.name), canonical_json(asdict(study)))
    except AlreadyExistsError:
        raise InputError(
            "a study's plan is written only once",
            got=f"{study.name}, which there is already",
            expected="a new name",
            remedy="Choose another name; `halosign review study report` shows what there is.",
        ) from None


def read_study(store: Store, name: str) -> Study:
    """Read a study's plan; raises InputError for one that there is not."""
    try:
        content = store.get_json(study_key(name)) if is_safe_name(name) else None
    except NotFoundError:
        content = None
    if content is None:
        raise InputError(
            "there is no such study",
            got=name,
            expected=f"one of: {', '.join(list_studies(store)) or 'none yet'}",
            remedy="Make one with `halosign review study create`.",
        )
    try:
        items = tuple(
            StudyItem(**{**item, "options": tuple(item["options"])})
            for item in content.pop("items")
        )
        return Study(**content, items=items)
    except (TypeError, KeyError) as error:
        raise CorruptionError(
            f"{study_key(name)} is no study: {error}. Restore it from a backup."
        ) from error


def list_studies(store: Store) -> list[str]:
    """Give the names of all studies."""
    return [name for name in store.children(STUDIES)[0] if store.size(study_key(name)) is not None]


def _released(store: Store, version: str) -> list[tuple[str, str, str]]:
    members = read_release(store, version)["nodules"].values()
    return sorted((member["nodule_id"], member["digest"], member["method"]) for member in members)


def _standing(store: Store, recipe: Recipe) -> list[tuple[str, str, str]]:
    found = []
    for outcome in read_outcomes(store):
        if outcome.state == "done" and outcome.digest:
            verdict = find_consensus(
                read_verdicts(store, outcome.nodule_id), outcome.digest, recipe.review
            ).decision
            if verdict is not None and verdict.method:
                found.append((outcome.nodule_id, outcome.digest, verdict.method))
    return sorted(found)


def _item(store: Store, nodule_id: str, digest: str, method: str) -> StudyItem:
    case = read_case(store, nodule_id, digest)
    return StudyItem(
        nodule_id, digest, method, _options(case.reader_count), bool(case.facts.get("stand_in"))
    )


def _options(readers: int) -> tuple[str, ...]:
    return (*(f"reader-{reader}" for reader in range(1, readers + 1)), MATTE)


def raters_of(verdicts: Sequence[str], limit: int) -> tuple[str, ...]:
    """Give those who are in: the first to choose, up to the limit, in that order."""
    return tuple(dict.fromkeys(verdicts))[:limit]
