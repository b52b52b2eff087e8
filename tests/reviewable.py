"""Small stores for tests of the review: soft balls with eight candidates, two of them tied."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from storage.cases.case import NewCase, write_case
from storage.cases.outcomes import write_outcome
from storage.records import CandidateScores, Outcome, TrimapFacts
from storage.store import Store, open_store
from tests.cases import METHODS, case_facts, lidc_facts, report
from tests.phantoms import ball_patch

TIED = ("cf", "lb")


def add_nodule(
    store: Store, nodule_id: str, *, digest: str = "", seed: int = 1, missing=(), size=(10, 24, 24)
) -> str:
    """Store a finished nodule and its outcome; returns the digest of its case."""
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
    facts = case_facts(
        nodule_id,
        digest,
        patch.grid,
        patient=patient,
        synthetic=True,
        form="paper",
        source=lidc_facts([{"annotation_id": n, "texture": 5} for n in range(4)]),
        trimap=TrimapFacts(0.0, int(core.sum()), int((trimap == UNKNOWN).sum())),
        reports={m: report(m not in missing) for m in METHODS},
        scores=CandidateScores(
            methods={
                m: {"cross_entropy": 0.1 + 0.01 * n - 0.05 * (m == "lb"), "mass_outside": 0.2}
                for n, m in enumerate(METHODS)
                if m not in missing
            },
            differences={"cf|lb": 0.001 * seed, "cf|knn": 0.03},
            tied=(TIED,),
        ),
    )
    alphas = {m: None if m in missing else alpha for m, alpha in mattes.items()}
    write_case(store, NewCase(facts, patch, trimap, alphas))
    write_outcome(
        store,
        Outcome(nodule_id, patient, "done", "write", digest=digest, synthetic=True, form="paper"),
    )
    return digest


def reviewable_store(folder: Path | str, nodules: int = 5) -> Store:
    """Create a store with some nodules, P-1-a1 and so on, each of another patient."""
    store = open_store(str(folder), create=True)
    for number in range(1, nodules + 1):
        add_nodule(store, f"P-{number}-a{number}", seed=number)
    return store
