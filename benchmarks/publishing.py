"""Seconds and peak memory of publishing and verifying a release of many synthetic nodules.

    python -m benchmarks.publishing

The store is filled in another process, so that the peak is that of publishing alone. Cases are
small balls: what is measured is the work a nodule costs whatever its size, and the store's many
files.
"""

import json
import time
from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measure import MEGABYTE, command_line, in_own_process, save
from benchmarks.nodules import case_facts
from matting.geometry.grid import Grid
from matting.geometry.patch import Patch
from storage.cases.case import NewCase, case_digest, write_case
from storage.cases.outcomes import write_outcome
from storage.recipe import Recipe
from storage.records import Outcome, Verdict
from storage.releases.release import publish_release
from storage.releases.verify import verify_release
from storage.reviews.verdicts import record_verdict
from storage.store import open_store
from tasks.memory import peak_bytes
from tasks.publish import draft_release

NODULES = 1000
LIMIT_MB = 1000
SHAPE = (24, 48, 48)
METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")
VERSION = "0.1.0"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--fill", metavar="STORE", help="fill a store; for the processes")
    parser.add_argument(
        "--publish", metavar="STORE", help="publish and verify a store; for the processes"
    )
    arguments = parser.parse_args()
    if arguments.fill:
        print(json.dumps(fill(arguments.fill)))
        return
    if arguments.publish:
        print(json.dumps(publish(arguments.publish)))
        return
    with TemporaryDirectory() as scratch:
        filled = in_own_process("benchmarks.publishing", "--fill", f"{scratch}/store")
        report = {
            "nodules": NODULES,
            **filled,
            **in_own_process("benchmarks.publishing", "--publish", f"{scratch}/store"),
        }
    report |= {"limit_mb": LIMIT_MB, "met": report["peak_mb"] < LIMIT_MB}
    print(report)
    save("publishing", report)


def fill(url: str) -> dict[str, float]:
    """Store decided cases; only their CT differs from one to another."""
    store, recipe, size = open_store(url, create=True), Recipe(), 0
    axes = np.indices(SHAPE).reshape(3, -1).T - (np.array(SHAPE) - 1) / 2
    distance = np.linalg.norm(axes, axis=1).reshape(SHAPE)
    alphas = {
        name: 1 / (1 + np.exp((distance - 8 - n / 8) / 1.5)) for n, name in enumerate(METHODS)
    }
    readers = np.stack([distance < radius for radius in (7, 8, 9, 10)])
    trimap = np.where(readers.all(axis=0), 255, np.where(readers.any(axis=0), 128, 0)).astype(
        np.uint8
    )
    grid = Grid(SHAPE, (0.5, 0.5, 0.5), (0.0, 0.0, 0.0))
    draw = np.random.default_rng(1)
    for number in range(NODULES):
        image = (alphas["cf"] * 900 - 860 + draw.normal(0, 30, SHAPE)).astype(np.float32)
        nodule_id, patient = f"P{number // 2:05}-{number}", f"P{number // 2:05}"
        digest = case_digest(nodule_id, recipe)
        facts = replace(
            case_facts(nodule_id, digest, grid, METHODS),
            patient=patient,
            synthetic=True,
            recipe=recipe.content_key(),
        )
        patch = Patch(grid, image, np.ones(SHAPE, bool), readers)
        size += write_case(store, NewCase(facts, patch, trimap, alphas))
        write_outcome(
            store, Outcome(nodule_id, patient, "done", "write", digest=digest, synthetic=True)
        )
        record_verdict(store, Verdict(nodule_id, digest, "choose", "cf+", "bench", automatic=True))
    return {"megabytes": round(size / MEGABYTE)}


def publish(url: str) -> dict[str, float]:
    store, begin = open_store(url), time.perf_counter()
    draft = draft_release(store, VERSION, Recipe())
    gathered = time.perf_counter()
    publish_release(store, VERSION, draft, publisher="bench")
    published = time.perf_counter()
    complaints = verify_release(store, VERSION)
    verified = time.perf_counter()
    if complaints:
        raise ValueError(complaints[0])
    return {
        "files": len(draft.case_files),
        "gather_s": round(gathered - begin, 1),
        "publish_s": round(published - gathered, 2),
        "verify_s": round(verified - published, 1),
        "peak_mb": round(peak_bytes() / MEGABYTE),
    }


if __name__ == "__main__":
    main()
