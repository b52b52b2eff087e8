"""Scores: the eight methods, the trivial mattes and trained networks against the mattes of a release.

Fairness: where a method supplied a nodule's released matte, that nodule does not count for it; a nodule without a
method's matte does not count for it either. So rows may stand on different nodules, and each says how many.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from matting.baselines import hu_linear, readers_mean
from matting.learned.network import MattingNetwork, build_network
from matting.learned.prediction import predict
from matting.learned.training import pick_device
from matting.metrics import GRADIENT_REACH, absolute_difference, connectivity_error, gradient_error, squared_error
from matting.region import box_around
from matting.trimap import FOREGROUND, UNKNOWN
from storage.checkpoints import Checkpoint
from storage.reader import ReleaseReader
from storage.scores import Score
from tasks.train import intensity_range

NEAR_MM = 5.0
"""Width of the region around what any reader marked."""
READERS_MEAN, HU_LINEAR, TRIMAP_PRIOR = "readers' mean", "HU linear", "trimap prior"
Matte = NDArray[np.floating]


def score_methods(reader: ReleaseReader, split: str, after: Callable[[str], None] = lambda _: None) -> list[Score]:
    """Score every stored and every trivial matte of a split's nodules against the released ones.

    The trimap's prior is 1 in the foreground, 0 in the background, and in between the mean of the released mattes over
    the unknown voxels of the training split (of all nodules where there is none).
    """
    prior = _mean_in_unknown(reader)
    scores: list[Score] = []
    for nodule_id in reader.nodules(split):
        supplied = reader.manifest["nodules"][nodule_id]["method"]
        mattes: dict[str, Matte] = {}
        for method in reader.facts(nodule_id)["methods"]:
            matte = reader.read(nodule_id, "alpha", method=method)
            if np.isfinite(matte).all():
                mattes[method] = matte
        trimap = reader.read(nodule_id, "trimap")
        mattes[READERS_MEAN] = readers_mean(reader.read(nodule_id, "readers") > 0)
        mattes[HU_LINEAR] = hu_linear(reader.read(nodule_id, "image").astype(np.float64))
        mattes[TRIMAP_PRIOR] = np.where(trimap == UNKNOWN, prior, trimap == FOREGROUND)
        scores += _score(reader, nodule_id, mattes, supplied)
        after(nodule_id)
    return scores


def score_network(
    reader: ReleaseReader,
    split: str,
    checkpoint: Checkpoint,
    device: str = "auto",
    after: Callable[[str], None] = lambda _: None,
) -> list[Score]:
    """Score a network on a split's nodules; it is given the CT alone."""
    network = load_network(checkpoint, pick_device(device))
    scores: list[Score] = []
    for nodule_id in reader.nodules(split):
        image, valid = reader.read(nodule_id, "image"), reader.read(nodule_id, "validity") > 0
        alpha = predict(network, image, valid, intensity_range(reader)).alpha
        scores += _score(reader, nodule_id, {checkpoint.label: alpha}, supplied="")
        after(nodule_id)
    return scores


def load_network(checkpoint: Checkpoint, device: torch.device) -> MattingNetwork:
    """Build a checkpoint's network with its weights, on a device."""
    network = build_network(checkpoint.config["variant"], bool(checkpoint.config["auxiliary"]))
    network.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in checkpoint.weights.items()})
    placed: MattingNetwork = network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return placed


def _score(reader: ReleaseReader, nodule_id: str, mattes: Mapping[str, Matte], supplied: str) -> Iterator[Score]:
    truths: dict[str, Matte] = {"released": reader.read(nodule_id, "alpha")}
    if reader.facts(nodule_id)["stand_in"]:
        truths["known"] = reader.read(nodule_id, "known_alpha")
    regions = _regions(reader, nodule_id)
    for truth_name, truth in truths.items():
        for name, matte in mattes.items():
            if truth_name == "released" and name == supplied:
                continue
            for region_name, region in regions.items():
                figures = measure(matte, truth, region)
                yield Score(nodule_id, name, truth_name, region_name, int(region.sum()), *figures)


def measure(matte: Matte, truth: Matte, region: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Give SAD, MSE, Grad and Conn over a region.

    Where both mattes are 0 there is nothing to sum, so all but the mean work on the box of what is not.
    """
    inked = (matte > 0) | (truth > 0)
    if not (inked & region).any():
        return 0.0, 0.0, 0.0, 0.0
    # Beyond the reach of the gradient's kernel a replicated border of zeros is what lies there.
    box = box_around(inked, (2 * GRADIENT_REACH,) * 3)
    part = (matte[box], truth[box], region[box])
    grad, conn = gradient_error(*part), connectivity_error(*part)
    return absolute_difference(*part), squared_error(matte, truth, region), grad, conn


def _regions(reader: ReleaseReader, nodule_id: str) -> dict[str, NDArray[np.bool_]]:
    """Give the measured voxels, those near what any reader marked, and the unknown ones."""
    valid = reader.read(nodule_id, "validity") > 0
    union = reader.read(nodule_id, "readers").any(axis=0)
    spacing_mm = reader.grid(nodule_id).spacing_mm
    near = ndimage.distance_transform_edt(~union, sampling=spacing_mm) <= NEAR_MM
    return {"whole": valid, "near": near & valid, "unknown": reader.read(nodule_id, "trimap") == UNKNOWN}


def _mean_in_unknown(reader: ReleaseReader) -> float:
    present = {member["split"] for member in reader.manifest["nodules"].values()}
    total, voxels = 0.0, 0
    for nodule_id in reader.nodules("train" if "train" in present else None):
        unknown = reader.read(nodule_id, "trimap") == UNKNOWN
        total += float(reader.read(nodule_id, "alpha")[unknown].sum(dtype=np.float64))
        voxels += int(unknown.sum())
    return total / voxels
