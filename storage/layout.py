"""The layout of a store: every path, array, data type and chunk. Read this first.

    store.json                            marks a store
    clock                                 empty; written by `store gc` to learn the time
    cases/<nodule>/<digest>/              Zarr v3 group, readable as OME-Zarr 0.5; never changed
        image            int16   (z, y, x)     HU
        alpha            float32 (8, z, y, x)  eight mattes in 0..1; NaN where a method gave none
        validity         uint8   (z, y, x)     1 where the scanner measured
        labels/readers/0 uint8   (r, z, y, x)  what each reader marked
        labels/trimap/0  uint8   (z, y, x)     0 background, 128 unknown, 255 foreground
        known_alpha      float32 (z, y, x)     only where the CT is simulated: the true matte
    cases/<nodule>/<digest>.done          marks a finished case: its files with SHA-256
    outcomes/<nodule>.json                the latest outcome
    runs/<time>-<host>-<process>.json     what each curation run was to do and did
    logs/<time>-<host>-<process>.jsonl    what a run logged, one JSON object per line
    reports/store.html                    the store after the last run, as a page without pictures
    decisions/<nodule>/<time>-<id>.json   verdicts; only ever added
    studies/<study>/study.json            the plan of a study: what is shown to whom, written once
    studies/<study>/verdicts/<nodule>/<time>-<id>.json  its verdicts; no release uses them
    releases/<version>/                   manifest.json, written last, and the files that it names
    releases/<version>/withdrawn.json     only where the release was withdrawn: who, when, why
    metrics/<version>/…                   errors of mattes: storage.results.scores
    experiments/<version>/…               experiments: storage.results.experiments
    trainings/<id>/                       a training: its state and its preview
    checkpoints/<digest>/                 a trained network; config.json is written last
    networks/<name>/                      a published network: storage.results.networks
    quarantine/<time>/<key>               damaged files, set aside by `store check --repair`

The JSON files are the records of `storage.records`, which carry their own SHA-256, as do tables and
the states of trainings; what has none, such as pictures, is listed in a `files.json` beside it.
Every array has one chunk per volume: a case fits in memory, and one read returns the matte of one
method.
"""

import re

import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from storage.records import JsonObject

OUTCOMES = "outcomes"
CASES = "cases"
DECISIONS = "decisions"
STUDIES = "studies"
RELEASES = "releases"
RUNS = "runs"
LOGS = "logs"
REPORT = "reports/store.html"
METRICS = "metrics"
EXPERIMENTS = "experiments"
TRAININGS = "trainings"
CHECKPOINTS = "checkpoints"
NETWORKS = "networks"
QUARANTINE = "quarantine"

MANIFEST = "manifest.json"
"""Name of a release's manifest, in the store and in an export."""
EXPORT_MARKER = "export.json"
"""Name of the file that marks a folder as an export."""

ALPHA_STEP = 2.0**-16
"""Mattes are stored as multiples of this, far below any tolerance; the last bits of a solve are
noise."""

NODULE_ID = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?"
"""A nodule id: at most 100 letters, digits, dots, dashes and underscores; it does not end in a
dot."""

_NODULE_ID = re.compile(NODULE_ID)
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_nodule_id(name: str) -> bool:
    """Return whether a name may be a nodule id."""
    return bool(_NODULE_ID.fullmatch(name))


def is_safe_name(name: str) -> bool:
    """Return whether a version, recipe, study, reviewer or network may have this name in a key."""
    return bool(_SAFE_NAME.fullmatch(name))


def case_prefix(nodule_id: str, digest: str) -> str:
    """Return the prefix of a case's group."""
    return f"{CASES}/{nodule_id}/{digest}"


def done_key(nodule_id: str, digest: str) -> str:
    """Return the key of the mark of a finished case."""
    return f"{case_prefix(nodule_id, digest)}.done"


def outcome_key(nodule_id: str) -> str:
    """Return the key of a nodule's latest outcome."""
    return f"{OUTCOMES}/{nodule_id}.json"


def network_prefix(name: str) -> str:
    """Return the prefix of a published network."""
    return f"{NETWORKS}/{name}"


def study_key(study: str) -> str:
    """Return the key of a study's plan."""
    return f"{STUDIES}/{study}/study.json"


def study_verdicts_prefix(study: str) -> str:
    """Return the prefix of a study's verdicts."""
    return f"{STUDIES}/{study}/verdicts"


def manifest_key(version: str) -> str:
    """Return the key of a release's manifest."""
    return f"{RELEASES}/{version}/{MANIFEST}"


def claim_key(version: str) -> str:
    """Return the key of the claim that reserved a release's version."""
    return f"{RELEASES}/{version}/claim.json"


def round_alpha(alpha: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round a matte to multiples of `ALPHA_STEP`, which are exact in float32."""
    return (np.rint(alpha / ALPHA_STEP) * ALPHA_STEP).astype(np.float32)


def image_metadata(grid: Grid) -> JsonObject:
    """Return the OME-Zarr 0.5 metadata of a case: the CT first, then the mattes as channels."""
    multiscales = [
        multiscale("image", "image", grid, False),
        multiscale("alpha", "alpha", grid, True),
    ]
    return {"version": "0.5", "multiscales": multiscales}


def label_metadata(name: str, grid: Grid, *, channels: bool) -> JsonObject:
    """Return the OME-Zarr 0.5 metadata of a label group."""
    return {
        "version": "0.5",
        "multiscales": [multiscale(name, "0", grid, channels)],
        "image-label": {"source": {"image": "../../"}},
    }


def multiscale(name: str, path: str, grid: Grid, channels: bool) -> JsonObject:
    """Return the OME-Zarr 0.5 metadata of one array, placed in patient space.

    Args:
        name: Of the image.
        path: Of the array, below its group.
        grid: Its lattice, in mm.
        channels: Whether an axis comes before (z, y, x).
    """
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    scale = list(grid.spacing_mm)
    origin = list(grid.origin_lps_mm[::-1])
    if channels:
        axes.insert(0, {"name": "c", "type": "channel"})
        scale.insert(0, 1.0)
        origin.insert(0, 0.0)
    transformations = [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": origin},
    ]
    return {
        "name": name,
        "axes": axes,
        "datasets": [{"path": path, "coordinateTransformations": transformations}],
    }
