"""The inventory of a source."""

from storage.sources.base import Inventory
from storage.sources.registry import open_source
from tasks.curation.context import CurationJob


def take_inventory(job: CurationJob, patients: frozenset[str] | None) -> Inventory:
    """List the nodules to curate and the excluded ones, of all patients or of some."""
    return open_source(job.source).inventory(readers=job.recipe.readers, patients=patients)
