"""What stands decided, as tests ask for it."""

from storage.reviews.verdicts import Verdict, effective, read_verdicts
from storage.store import Store


def latest_decision(store: Store, nodule_id: str) -> Verdict | None:
    """Give the newest verdict on a nodule, whichever case it was about; None where there is none."""
    standing = effective(read_verdicts(store, nodule_id))
    return standing[-1] if standing else None
