"""What a source holds."""

from storage.source import Survey
from storage.sources import open_source
from tasks.record import Order


def survey_source(order: Order, patients: frozenset[str] | None) -> Survey:
    """List the nodules to curate and those left out, all or of some patients."""
    return open_source(order.source).survey(readers=order.recipe.readers, patients=patients)
