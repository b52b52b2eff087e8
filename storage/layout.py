"""The map of the shelf: every path, array, type and chunk. Read this first.

    store.json                            marks a store
    cases/<nodule>/<digest>/              one Zarr v3 group, readable as OME-Zarr 0.5; never changed once done
        image            int16   (z, y, x)     HU
        alpha            float32 (8, z, y, x)  the eight mattes in 0..1; NaN throughout where a method gave none
        validity         uint8   (z, y, x)     1 where the scanner measured
        labels/readers/0 uint8   (r, z, y, x)  what each reader marked
        labels/trimap/0  uint8   (z, y, x)     0 background, 128 unknown, 255 foreground
        known_alpha      float32 (z, y, x)     only where the CT is simulated: the true matte
    cases/<nodule>/<digest>.done          the only mark of 'done': the group's files with SHA-256, written last
    outcomes/<nodule>.json                the latest outcome
    runs/<time>-<host>-<process>.json     what each curation set out to do and did
    decisions/<nodule>/<time>-<id>.json   append-only verdicts
    studies/<study>/study.json            a clinicians' study: what is shown to whom, written once
    studies/<study>/verdicts/<nodule>/<time>-<id>.json    its verdicts, which decide no release
    releases/<version>/                   manifest.json, written last, and what it names
    releases/<version>/withdrawn.json     only where the release was withdrawn: who, when, why
    metrics/<version>/…                   how far mattes are from a release: storage.results.scores
    experiments/<version>/…               what `halosign evaluate` makes of a release: storage.results.experiments
    trainings/<id>/                       a training under way: its state, its early look
    checkpoints/<digest>/                 a trained network; config.json is written last

Every array is one chunk per volume: a case fits in memory, and one read gives one method's matte.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Grid

OUTCOMES = "outcomes"
CASES = "cases"
DECISIONS = "decisions"
STUDIES = "studies"
RELEASES = "releases"
RUNS = "runs"
METRICS = "metrics"
EXPERIMENTS = "experiments"
TRAININGS = "trainings"
CHECKPOINTS = "checkpoints"

ALPHA_STEP = 2.0**-16
"""Mattes are stored rounded to this: far below any tolerance, and the last bits of a solve are noise."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_safe_name(name: str) -> bool:
    """Tell whether a nodule id, version or reviewer may stand in a path."""
    return bool(_SAFE_NAME.fullmatch(name))


def case_prefix(nodule_id: str, digest: str) -> str:
    """Give the folder of a case."""
    return f"{CASES}/{nodule_id}/{digest}"


def done_key(nodule_id: str, digest: str) -> str:
    """Give the key whose presence means that a case is whole."""
    return f"{case_prefix(nodule_id, digest)}.done"


def outcome_key(nodule_id: str) -> str:
    """Give the key of a nodule's latest outcome."""
    return f"{OUTCOMES}/{nodule_id}.json"


def study_key(study: str) -> str:
    """Give the key of a study's plan."""
    return f"{STUDIES}/{study}/study.json"


def study_verdicts(study: str) -> str:
    """Give the folder of a study's verdicts."""
    return f"{STUDIES}/{study}/verdicts"


def rounded_alpha(alpha: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round a matte to the stored steps; exact in float32."""
    return (np.rint(alpha / ALPHA_STEP) * ALPHA_STEP).astype(np.float32)


def image_metadata(grid: Grid) -> dict[str, Any]:
    """Describe a case's group as OME-Zarr 0.5: the CT first, then the mattes as channels."""
    multiscales = [
        multiscale("image", "image", grid, False),
        multiscale("alpha", "alpha", grid, True),
    ]
    return {"version": "0.5", "multiscales": multiscales}


def label_metadata(name: str, grid: Grid, *, channels: bool) -> dict[str, Any]:
    """Describe a label group as OME-Zarr 0.5."""
    return {
        "version": "0.5",
        "multiscales": [multiscale(name, "0", grid, channels)],
        "image-label": {"source": {"image": "../../"}},
    }


def grid_attributes(grid: Grid) -> dict[str, Any]:
    """Write a grid as JSON."""
    return {
        "shape": list(grid.shape),
        "spacing_mm": list(grid.spacing_mm),
        "origin_lps_mm": list(grid.origin_lps_mm),
        "axes_lps": [list(axis) for axis in grid.axes_lps],
    }


def grid_from_attributes(attributes: Mapping[str, Any]) -> Grid:
    """Read a grid back from JSON."""
    z, y, x = (tuple(axis) for axis in attributes["axes_lps"])
    return Grid(
        tuple(attributes["shape"]),
        tuple(attributes["spacing_mm"]),
        tuple(attributes["origin_lps_mm"]),
        (z, y, x),
    )


def multiscale(name: str, path: str, grid: Grid, channels: bool) -> dict[str, Any]:
    """Describe one array as an OME-Zarr 0.5 image in patient space, in mm."""
    axes: list[dict[str, str]] = [
        {"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"
    ]
    scale, origin = list(grid.spacing_mm), list(grid.origin_lps_mm[::-1])
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
