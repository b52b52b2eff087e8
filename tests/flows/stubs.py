"""Nodule functions that compute nothing, with a fate for each nodule; imported by the workers."""

import os
import time

from storage.cases.outcomes import write_outcome
from storage.errors import NotFoundError
from storage.records import Outcome
from storage.sources.base import Nodule
from storage.store import open_store
from tasks.curation.context import CurationJob


def mixed_stub(nodule: Nodule, job: CurationJob) -> Outcome:
    """n03 is refused, n05 is unavailable once, n07 kills its worker, the others are done."""
    store = open_store(job.store_url)
    try:
        tries = int(store.get(f"tries/{nodule.id}")) + 1
    except NotFoundError:
        tries = 1
    store.put(f"tries/{nodule.id}", str(tries).encode())
    if nodule.id == "n07":
        time.sleep(0.2)
        os._exit(137)
    made = {
        "n03": {"state": "refused", "stage": "trimap", "reason": "the readers share no voxel"},
        "n05": {"state": "failed", "stage": "write", "reason": "503", "transient": True},
    }.get(nodule.id if tries == 1 or nodule.id == "n03" else "", {})
    outcome = Outcome(nodule.id, nodule.patient_id, **{"state": "done", "stage": "write", **made})
    write_outcome(store, outcome)
    return outcome


def stop_at_two(attempt: int, nodule: Nodule, job: CurationJob) -> Outcome:
    """Finish all nodules, but record only n00 and n01 in the first attempt."""
    outcome = Outcome(nodule.id, nodule.patient_id, "done", "write")
    if attempt == 2 or nodule.id in {"n00", "n01"}:
        write_outcome(open_store(job.store_url), outcome)
    return outcome
