"""The inventory of a source."""

from storage.sources.base import Inventory
from storage.sources.errors import SourceUnreachableError
from storage.sources.registry import open_source
from tasks.curation.context import CurationJob


def take_inventory(job: CurationJob, patients: frozenset[str] | None) -> Inventory:
    """List the nodules to curate and the excluded ones, of all patients or of some.

    Raises:
        SourceUnreachableError: The source, or a folder of it, cannot be listed now.
        InputError: It is no source, or has no such patient.
    """
    source = open_source(job.source)
    try:
        return source.inventory(readers=job.recipe.readers, patients=patients)
    except OSError as error:
        raise SourceUnreachableError(
            "the source cannot be listed",
            got=f"{error.filename or job.source.location}: {error.strerror}",
            expected="folders and files that can be read",
            remedy="Check the mount and the permissions, then run the same command again; what is "
            "stored was not touched.",
        ) from error
