"""The verdict on a nodule, as tests ask for it."""

from storage.records import Verdict
from storage.reviews.verdicts import effective_verdicts, read_verdicts
from storage.store import Store


def latest_verdict(store: Store, nodule_id: str) -> Verdict | None:
    """Return the newest verdict on a nodule, on whichever case of it; None where there is none."""
    verdicts = effective_verdicts(read_verdicts(store, nodule_id))
    return verdicts[-1] if verdicts else None
