"""What stands decided, as tests ask for it."""

from storage.decisions import Decision, effective, read_decisions
from storage.store import Store


def latest_decision(store: Store, nodule_id: str) -> Decision | None:
    """Give the newest verdict on a nodule, whichever case it was about; None where there is none."""
    standing = effective(read_decisions(store, nodule_id))
    return standing[-1] if standing else None
