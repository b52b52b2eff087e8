"""Small stores for tests of the review: soft balls with eight candidates, two of them tied."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from storage.cases.case import NewCase, write_case
from storage.cases.outcomes import Outcome, write_outcome
from storage.store import Store, open_store
from tests.phantoms import ball_patch

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")
TIED = ("cf", "lb")


def add_nodule(
    store: Store, nodule_id: str, *, digest: str = "", seed: int = 1, missing=(), size=(10, 24, 24)
) -> str:
    """Store a finished nodule, whose latest case it becomes; return the digest."""
    digest = digest or f"{seed:02d}" * 32
    patient = nodule_id.partition("-a")[0]
    patch = ball_patch(shape=size, seed=seed)
    core, union = patch.readers.all(axis=0), patch.readers.any(axis=0)
    trimap = np.where(core, FOREGROUND, np.where(union, UNKNOWN, BACKGROUND)).astype(np.uint8)
    truth = np.where(union, patch.known_alpha, 0).astype(np.float64)
    mattes = {
        m: np.where(union, ndimage.gaussian_filter(truth, 0.1 * n), 0)
        for n, m in enumerate(METHODS)
    }
    facts = {
        "patient": patient,
        "stand_in": True,
        "source": {"annotations": [{"annotation_id": n, "texture": 5} for n in range(4)]},
        "trimap": {"unknown_voxels": int((trimap == UNKNOWN).sum())},
        "reports": {m: {"converged": m not in missing, "status": "ok"} for m in METHODS},
        "figures": {
            "ranking": [m for m in ("lb", *METHODS) if m not in missing][:8],
            "methods": {
                m: {"cross_entropy": 0.1 + 0.01 * n, "mass_outside": 0.2}
                for n, m in enumerate(METHODS)
            },
            "differences": {"cf|lb": 0.001 * seed, "cf|knn": 0.03},
            "tied": [list(TIED)],
        },
    }  # fmt: skip
    alphas = {m: None if m in missing else alpha for m, alpha in mattes.items()}
    write_case(store, NewCase(nodule_id, digest, patch, trimap, alphas, facts))
    write_outcome(store, Outcome(nodule_id, patient, "done", "write", digest=digest, stand_in=True))
    return digest


def reviewable_store(folder: Path | str, nodules: int = 5) -> Store:
    """Make a store of so many nodules, P-1-a1 and so on, each of a patient of its own."""
    store = open_store(str(folder), create=True)
    for number in range(1, nodules + 1):
        add_nodule(store, f"P-{number}-a{number}", seed=number)
    return store
