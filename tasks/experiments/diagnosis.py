"""Classification of malignancy from each input alone: the paper's Figure 6, with baselines.

The baselines show how much size and HU alone tell. For each seed every nodule is scored once, by a
classifier trained on other patients. Nodules with a mean rating of 3 are excluded, and so are those
without all eight mattes: all inputs are compared on the same nodules.

Those who outlined a nodule also rated it, so masks and mattes may know more of the rating than the
CT does. With the raters kept apart, the first half of a nodule's readers outline it, which all
inputs are made from, and the others rate it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from matting.diagnosis.auroc import Auroc, auroc
from matting.diagnosis.classifier import classify, fold_patients, train_classifier
from matting.diagnosis.cubes import cube_around
from matting.errors import InputError
from matting.estimate import METHODS
from matting.geometry.box import box_around
from matting.learned.devices import pick_device, set_num_threads
from matting.measures.baselines import hu_linear
from matting.parameters import DiagnosisSettings
from storage.cases.case import ALGORITHM_VERSION
from storage.recipe import recipe_from
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.diagnoses import (
    Cubes,
    DiagnosisRow,
    NoduleScore,
    RatedNodule,
    diagnosis_id,
    diagnosis_prefix,
    find_rated_nodules,
    find_run_scores,
    read_cubes,
    reader_ratings,
    write_inputs,
    write_run_scores,
)
from tasks.learning.train import intensity_range
from tasks.nodule_mattes import nodule_mattes

DIAGNOSIS_VERSION = 2
"""Increased whenever the same settings give other scores than before."""
RATERS_APART_VERSION = 1
"""The same, where the readers who outline are not those who rate."""
LEAST_READERS = 4
"""For this: two make a trimap with an unknown region."""
Mattes = dict[str, NDArray[np.floating]]
INDETERMINATE_RATING = 3.0
"""Mean rating that is neither benign nor malignant."""
MASKS = ("Mean", "Rand", "Overlap", "Union")
RELEASED = "GT"
HU_LINEAR = "HU linear"
VOLUME = "Volume"
MASKED_HU = ("Mean x HU", "Union x HU")
"""Density without a matte: the image within the readers' masks."""
INPUTS = ("Image", *MASKS, *(method.upper() for method in METHODS), RELEASED, HU_LINEAR, *MASKED_HU)
"""Named as in the paper, plus the trivial matte and the controls."""
NO_BACKBONE = "none"
_RAND_STREAM = 2
"""Stream of random numbers that chooses a reader, part of the seed."""


@dataclass(frozen=True, slots=True)
class DiagnosisProgress:
    """The progress of a diagnosis."""

    what: str
    """A nodule that was read, or a run, e.g. ``densenet121 CF+ seed 2``."""
    done: int
    of: int


def diagnose(
    release: Release,
    settings: DiagnosisSettings,
    *,
    device: str = "auto",
    after: Callable[[DiagnosisProgress], None] = lambda _: None,
) -> list[DiagnosisRow]:
    """Train and test classifiers on each input; stored runs are not repeated.

    Args:
        release: A published release.
        settings: All settings.
        device: auto, cpu, cuda.
        after: Called after every nodule read and every run.

    Returns:
        For each backbone and input one row per seed and one of their mean; last the row of volume
        alone.

    Raises:
        InputError: The release has no ratings or too few nodules of a kind, or the device does not
            exist.
    """
    store = release.store
    place = pick_device(device)
    set_num_threads()
    prefix, nodules = prepare(release, settings, after)
    malignant = np.array([nodule.malignant for nodule in nodules])
    folds = {
        s: fold_patients([n.patient for n in nodules], malignant, settings.folds, s)
        for s in settings.seeds
    }
    done = 0
    total = len(settings.backbones) * len(INPUTS) * len(settings.seeds)
    rows: list[DiagnosisRow] = []
    for backbone in settings.backbones:
        for name in INPUTS:
            cubes: Cubes | None = None
            runs = []
            for seed in settings.seeds:
                run = find_run_scores(store, prefix, backbone, name, seed)
                if run is None:
                    cubes = read_cubes(store, prefix, name) if cubes is None else cubes
                    scores = _cross_validate(
                        cubes, malignant, folds[seed], backbone, settings, seed, place
                    )
                    run = tuple(
                        NoduleScore(nodule.nodule, int(fold), float(score))
                        for nodule, fold, score in zip(nodules, folds[seed], scores, strict=True)
                    )
                    write_run_scores(store, prefix, backbone, name, seed, run)
                runs.append(run)
                done += 1
                after(DiagnosisProgress(f"{backbone} {name} seed {seed}", done, total))
            rows += rows_of(backbone, name, settings.seeds, nodules, runs)
    return [*rows, volume_row(nodules)]


def _cross_validate(
    cubes: Cubes,
    malignant: NDArray[np.bool_],
    folds: NDArray[np.int64],
    backbone: str,
    settings: DiagnosisSettings,
    seed: int,
    device: torch.device,
) -> NDArray[np.float64]:
    """Return the score of each nodule by the classifier trained on the other folds, (n,)."""
    scores = np.empty(len(cubes))
    for fold in range(settings.folds):
        test = folds == fold
        network = train_classifier(cubes[~test], malignant[~test], backbone, settings, seed, device)
        scores[test] = classify(network, cubes[test], settings)
    return scores


def diagnosis_id_of(
    release: Release, settings: DiagnosisSettings, *, raters_apart: bool = False
) -> str:
    """Return the id under which the runs of these settings on a release are stored."""
    own = {
        name: value
        for name, value in asdict(settings).items()
        if name not in ("backbones", "seeds")
    }
    content_key = {
        "settings": own,
        "release": release.version,
        "manifest_sha256": release.manifest_sha256,
        "diagnosis": DIAGNOSIS_VERSION,
    }
    if raters_apart:  # its mattes are estimated here
        content_key |= {"raters_apart": RATERS_APART_VERSION, "algorithm": ALGORITHM_VERSION}
    return diagnosis_id(content_key)


def rows_of(
    backbone: str,
    name: str,
    seeds: tuple[int, ...],
    nodules: tuple[RatedNodule, ...],
    runs: list[tuple[NoduleScore, ...]],
) -> list[DiagnosisRow]:
    """Return one row per seed and one of all seeds together.

    Args:
        backbone: The classifier's backbone.
        name: The input.
        seeds: The seeds of the runs.
        nodules: The nodules, in the order of the scores.
        runs: The scores of each seed.
    """
    malignant = [n.malignant for n in nodules]
    patients = [n.patient for n in nodules]
    scores = np.array([[one.score for one in run] for run in runs])
    folds = np.array([[one.fold for one in run] for run in runs])
    rows = [
        _row(backbone, name, seed, nodules, auroc(scores[place], malignant, patients, folds[place]))
        for place, seed in enumerate(seeds)
    ]
    return [*rows, _row(backbone, name, None, nodules, auroc(scores, malignant, patients, folds))]


def volume_row(nodules: tuple[RatedNodule, ...]) -> DiagnosisRow:
    """Return the row of the nodule's volume as score, which needs no training."""
    found = auroc(
        [n.volume_mm3 for n in nodules],
        [n.malignant for n in nodules],
        [n.patient for n in nodules],
    )
    return _row(NO_BACKBONE, VOLUME, None, nodules, found)


def _row(
    backbone: str, name: str, seed: int | None, nodules: tuple[RatedNodule, ...], found: Auroc
) -> DiagnosisRow:
    malignant = sum(nodule.malignant for nodule in nodules)
    return DiagnosisRow(
        backbone, name, seed, found.value, found.low, found.high, len(nodules), malignant
    )


def prepare(
    release: Release,
    settings: DiagnosisSettings,
    after: Callable[[DiagnosisProgress], None],
    *,
    raters_apart: bool = False,
) -> tuple[str, tuple[RatedNodule, ...]]:
    """Read every rated nodule and store its inputs, so that a restart reads no case again.

    Args:
        release: A published release.
        settings: Side and spacing of the cubes.
        after: Called after every nodule read.
        raters_apart: Half of the readers outline, the others rate.

    Returns:
        Prefix of the diagnosis in the store, and the nodules in the order of the stored cubes.

    Raises:
        InputError: The release has no ratings or too few nodules of a kind.
    """
    store = release.store
    name = diagnosis_id_of(release, settings, raters_apart=raters_apart)
    prefix = diagnosis_prefix(release.version, name)
    known = find_rated_nodules(store, prefix)
    if known:
        return prefix, known
    reader = ReleaseReader(release)
    rated = _rated(reader, raters_apart)
    nodules: list[RatedNodule] = []
    cubes: dict[str, list[Cubes]] = {name: [] for name in INPUTS}
    for place, (nodule_id, rating) in enumerate(rated.items()):
        inputs = nodule_inputs(reader, nodule_id, settings, raters_apart=raters_apart)
        if inputs is not None:
            volume_mm3 = _volume_mm3(reader, nodule_id, raters_apart)
            patient = reader.member(nodule_id).patient_id
            nodules.append(
                RatedNodule(nodule_id, patient, rating, rating > INDETERMINATE_RATING, volume_mm3)
            )
            for name, cube in inputs.items():
                cubes[name].append(cube.astype(np.float16))
        after(DiagnosisProgress(nodule_id, place + 1, len(rated)))
    _check_kinds(reader, nodules)
    write_inputs(store, prefix, nodules, ((name, np.stack(cubes.pop(name))) for name in INPUTS))
    return prefix, tuple(nodules)


def nodule_inputs(
    reader: ReleaseReader,
    nodule_id: str,
    settings: DiagnosisSettings,
    *,
    raters_apart: bool = False,
) -> dict[str, NDArray[np.float64]] | None:
    """Return the cube of each input around the readers' union, or None without all eight mattes.

    Args:
        reader: The release.
        nodule_id: The nodule.
        settings: Side and spacing of the cubes.
        raters_apart: Only the readers who outline count, and the mattes are estimated from them.

    Returns:
        (side, side, side) in 0..1, by name of the input.
    """
    readers = _outlines(reader, nodule_id, raters_apart)
    mattes = _estimate(reader, nodule_id, readers) if raters_apart else _released(reader, nodule_id)
    if mattes is None:
        return None
    image_hu = reader.read(nodule_id, "image").astype(np.float64)
    low, high = intensity_range(reader)
    union = readers.any(axis=0)
    chosen = np.random.default_rng(
        [_RAND_STREAM, *hashlib.sha256(nodule_id.encode()).digest()]
    ).integers(len(readers))
    scaled = np.clip((image_hu - low) / (high - low), 0, 1)
    mean = readers.mean(axis=0)
    volumes = {
        "Image": scaled,
        "Mean": mean,
        "Rand": readers[chosen],
        "Overlap": readers.all(axis=0),
        "Union": union,
        **{method.upper(): matte for method, matte in mattes.items()},
        RELEASED: mattes[reader.member(nodule_id).method],
        HU_LINEAR: hu_linear(image_hu),
        "Mean x HU": mean * scaled,
        "Union x HU": union * scaled,
    }
    z, y, x = (
        (side.start + side.stop - 1) / 2 for side in box_around(np.asarray(union), (0, 0, 0))
    )
    spacing_mm = reader.grid(nodule_id).spacing_mm
    return {
        name: cube_around(volume, (z, y, x), spacing_mm, settings.side_voxels, settings.spacing_mm)
        for name, volume in volumes.items()
    }


def _outlines(reader: ReleaseReader, nodule_id: str, raters_apart: bool) -> NDArray[np.bool_]:
    """Return the masks that inputs are made from, (readers, z, y, x)."""
    readers = reader.read(nodule_id, "readers") > 0
    return readers[: len(readers) // 2] if raters_apart else readers


def _released(reader: ReleaseReader, nodule_id: str) -> Mattes | None:
    """Return the released mattes by method; None where one of the eight is missing."""
    known = reader.facts(nodule_id).methods
    if not set(METHODS) <= set(known):
        return None
    mattes = {method: reader.read(nodule_id, "alpha", method=method) for method in METHODS}
    return mattes if all(np.isfinite(matte).all() for matte in mattes.values()) else None


def _estimate(reader: ReleaseReader, nodule_id: str, readers: NDArray[np.bool_]) -> Mattes | None:
    """Estimate the mattes from some readers' masks with the release's recipe.

    None where that is impossible, or where one of the eight does not converge.
    """
    recipe = recipe_from(reader.release.manifest.recipe, f"of release {reader.version}")
    try:
        _, mattes = nodule_mattes(
            reader.read(nodule_id, "image").astype(np.float32),
            reader.read(nodule_id, "validity") > 0,
            readers,
            reader.grid(nodule_id).spacing_mm,
            recipe,
        )
    except InputError:
        return None
    return mattes if len(mattes) == len(METHODS) else None


def _volume_mm3(reader: ReleaseReader, nodule_id: str, raters_apart: bool) -> float:
    readers = _outlines(reader, nodule_id, raters_apart)
    return float(readers.mean(axis=0).sum() * np.prod(reader.grid(nodule_id).spacing_mm))


def _rated(reader: ReleaseReader, raters_apart: bool) -> dict[str, float]:
    """Return the mean rating of each nodule that is rated benign or malignant."""
    ratings = {
        nodule_id: reader_ratings(reader.facts(nodule_id), "malignancy")
        for nodule_id in reader.nodules()
    }
    if raters_apart:  # ratings are in the order of the masks, or else whose they are is not known
        ratings = {
            nodule_id: given[len(given) // 2 :]
            for nodule_id, given in ratings.items()
            if LEAST_READERS <= len(given) == len(reader.read(nodule_id, "readers"))
        }
    means = {nodule_id: float(np.mean(given)) for nodule_id, given in ratings.items() if given}
    if not means:
        raise InputError(
            f"release {reader.version} cannot be diagnosed",
            got="no nodule with ratings of malignancy",
            expected="ratings from LIDC's annotations or a column `malignancy` of the table",
            remedy="Add the column, e.g. 5 4 4 3, curate and publish again.",
        )
    return {nodule_id: mean for nodule_id, mean in means.items() if mean != INDETERMINATE_RATING}


def _check_kinds(reader: ReleaseReader, nodules: list[RatedNodule]) -> None:
    malignant = sum(nodule.malignant for nodule in nodules)
    if min(malignant, len(nodules) - malignant) < 2:
        raise InputError(
            f"release {reader.version} cannot be diagnosed",
            got=f"{malignant} malignant and {len(nodules) - malignant} benign nodules with all "
            "eight mattes",
            expected="two or more of both",
            remedy="Publish more nodules.",
        )
