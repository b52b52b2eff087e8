"""One nodule of a store in another viewer: in napari, or as NIfTI files for any other."""

from pathlib import Path

from qc.layers import show_in_napari
from storage.cases.case import Case, read_case
from storage.cases.outcomes import find_outcome, read_outcomes
from storage.errors import unknown_nodules
from storage.exports.nodule_files import write_nodule
from storage.recipe import ReviewSettings
from storage.reviews.consensus import find_consensus
from storage.reviews.verdicts import read_verdicts
from storage.store import Store, open_store


def view(store_url: str, nodule_id: str, to: Path | None = None) -> int:
    """Open a nodule in napari, or write its volumes.

    Args:
        store_url: Folder or URL of the store.
        nodule_id: Of a nodule with a finished case.
        to: Folder for NIfTI files; None opens napari.

    Returns:
        The number of files that were written.

    Raises:
        InputError: There is no such nodule or case, napari is not installed, or the folder holds
            something else.
    """
    store = open_store(store_url)
    case = _finished_case(store, nodule_id)
    verdict = find_consensus(read_verdicts(store, nodule_id), case.digest, ReviewSettings()).verdict
    pick = verdict.method if verdict else None
    if to is None:
        show_in_napari(case, pick)
        return 0
    return write_nodule(case, pick, to)


def _finished_case(store: Store, nodule_id: str) -> Case:
    outcome = find_outcome(store, nodule_id)
    finished = outcome.last_done if outcome else None
    if finished is None:
        known = [one.nodule_id for one in read_outcomes(store) if one.last_done]
        raise unknown_nodules([nodule_id], known, "the store, among those with a case,")
    return read_case(store, nodule_id, str(finished.digest))
