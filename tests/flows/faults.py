"""Functions that fail on purpose; imported by the workers."""

import os

from flows.curate import curate_nodule
from storage.errors import NotFoundError
from storage.records import Outcome
from storage.sources.base import Nodule
from storage.store import open_store
from tasks.curation.context import CurationJob


def die_at_n3_and_n5(nodule: Nodule, job: CurationJob) -> Outcome:
    """Kill the worker process, as the system does when memory runs out."""
    if nodule.id in {"n3", "n5"}:
        os._exit(137)
    return curate_nodule(nodule, job)


def fail_once(nodule: Nodule, job: CurationJob) -> Outcome:
    """Fail n2 once for a transient reason and n5 always for a permanent one; count the tries."""
    store = open_store(job.store_url)
    try:
        tries = int(store.get(f"tries/{nodule.id}")) + 1
    except NotFoundError:
        tries = 1
    store.put(f"tries/{nodule.id}", str(tries).encode())
    if nodule.id == "n2" and tries == 1:
        return Outcome(
            nodule.id, nodule.patient_id, "failed", "write", "Unavailable: 503", transient=True
        )
    if nodule.id == "n5":
        return Outcome(
            nodule.id, nodule.patient_id, "failed", "solve", "MemoryError", transient=False
        )
    return curate_nodule(nodule, job)
