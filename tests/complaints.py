"""What verification says about all nodules of a store."""

from storage.maintenance.verify import Complaint, list_nodules, verify_nodules
from storage.store import Store


def complaints_about(store: Store) -> list[Complaint]:
    """Verify all cases and outcomes of a store."""
    return [one for found in verify_nodules(store, list_nodules(store)) for one in found]
