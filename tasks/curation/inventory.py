"""The inventory of a source, or of a selection of it."""

from dataclasses import replace

from storage.errors import unknown_nodules
from storage.sources.base import Inventory
from storage.sources.errors import SourceUnreachableError
from storage.sources.registry import open_source
from tasks.curation.context import CurationJob


def take_inventory(
    job: CurationJob,
    patients: frozenset[str] | None,
    nodules: frozenset[str] | None = None,
    limit: int | None = None,
) -> Inventory:
    """List the nodules to curate and the excluded ones, of a whole source or of some of it.

    Args:
        job: The source and the recipe.
        patients: Only the nodules of these; of all where None.
        nodules: Only these; all where None.
        limit: At most so many to curate, the first by id; all where None.

    Raises:
        SourceUnreachableError: The source, or a folder of it, cannot be listed now.
        InputError: It is no source, or has no such patient or nodule.
    """
    source = open_source(job.source, job.recipe.source)
    try:
        found = source.inventory(readers=job.recipe.readers, patients=patients)
    except OSError as error:
        raise SourceUnreachableError(
            "the source cannot be listed",
            got=f"{error.filename or job.source.location}: {error.strerror}",
            expected="folders and files that can be read",
            remedy="Check the mount and the permissions, then run the same command again; what is "
            "stored was not touched.",
        ) from error
    if nodules is not None:
        found = _only(found, nodules)
    return replace(found, nodules=found.nodules[:limit])


def _only(found: Inventory, nodules: frozenset[str]) -> Inventory:
    ids = [one.id for one in (*found.nodules, *found.absent)]
    ids += [one.nodule_id for one in found.exclusions]
    unknown = sorted(nodules - set(ids))
    if unknown:
        raise unknown_nodules(unknown, ids, "the source")
    return replace(
        found,
        nodules=tuple(one for one in found.nodules if one.id in nodules),
        exclusions=tuple(one for one in found.exclusions if one.nodule_id in nodules),
        absent=tuple(one for one in found.absent if one.id in nodules),
    )
