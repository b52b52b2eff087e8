"""The latest verdict, for tests."""

from storage.reviews.verdicts import Verdict, effective, read_verdicts
from storage.store import Store


def latest_decision(store: Store, nodule_id: str) -> Verdict | None:
    """Return the latest verdict on a nodule, on whichever case; None where there is none."""
    standing = effective(read_verdicts(store, nodule_id))
    return standing[-1] if standing else None
