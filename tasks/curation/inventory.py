"""What a source holds."""

from storage.sources.base import Inventory
from storage.sources.registry import open_source
from tasks.curation.context import CurationJob


def take_inventory(order: CurationJob, patients: frozenset[str] | None) -> Inventory:
    """List the nodules to curate and those left out, all or of some patients."""
    return open_source(order.source).inventory(readers=order.recipe.readers, patients=patients)
