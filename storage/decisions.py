"""Decisions: which of a nodule's mattes is released, or none. Verdicts are only ever added.

A verdict names the case's digest, so it never applies to another matte than the one that was looked at.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from matting.refusal import Refusal
from storage.errors import NotFound
from storage.layout import DECISIONS, is_safe_name
from storage.store import Store, canonical_json


@dataclass(frozen=True, slots=True)
class Decision:
    """One verdict on one case."""

    nodule_id: str
    digest: str
    """The case that was looked at."""
    verdict: Literal["choose", "discard"]
    method: str | None
    """The chosen matte; None when discarded."""
    reviewer: str
    automatic: bool
    """True where a rule decided, not a person."""
    note: str = ""
    decided_at: str = ""
    """UTC, ISO 8601."""

    def says_the_same(self, other: "Decision") -> bool:
        """Tell whether two verdicts differ in nothing but their time."""
        mine, others = asdict(self), asdict(other)
        return {**mine, "decided_at": ""} == {**others, "decided_at": ""}


def record_decision(store: Store, decision: Decision) -> Decision:
    """Add a verdict, stamped with the present time; raises Refusal for ids that cannot stand in a path."""
    for name in (decision.nodule_id, decision.reviewer):
        if not is_safe_name(name):
            raise Refusal(
                "a name cannot be stored",
                got=repr(name),
                expected="letters, digits, dots, dashes and underscores",
                remedy="Choose another name.",
            )
    now = datetime.now(UTC)
    stamped = Decision(**{**asdict(decision), "decided_at": now.isoformat()})
    data = canonical_json(asdict(stamped))
    name = f"{now:%Y%m%dT%H%M%S.%f}-{hashlib.sha256(data).hexdigest()[:8]}.json"
    store.create(f"{DECISIONS}/{decision.nodule_id}/{name}", data)
    return stamped


def latest_decision(store: Store, nodule_id: str) -> Decision | None:
    """Give the newest verdict on a nodule, whichever case it was about; None where there is none."""
    prefix = f"{DECISIONS}/{nodule_id}"
    try:
        names = store.children(prefix)[1]
    except NotFound:
        return None
    return Decision(**store.get_json(f"{prefix}/{names[-1]}")) if names else None
