"""A 3D classifier of nodules: benign or malignant from one volume alone (paper 6.1, Figure 6).

Backbones are MONAI's DenseNet-121 (Huang et al. 2017), ResNet-34 and ResNet-50 (He et al. 2016),
from scratch. MONAI's ResNets halve the volume once in their stem; He's do it twice, and so do
these.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.resnet import resnet34, resnet50
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from matting.errors import InputError
from matting.learned.batches import draw_order, draw_symmetry
from matting.learned.devices import autocast, resolve_precision
from matting.learned.training import rate_at
from matting.parameters import DiagnosisSettings

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "densenet121": lambda: DenseNet121(spatial_dims=3, in_channels=1, out_channels=1),
    "resnet34": lambda: resnet34(
        spatial_dims=3, n_input_channels=1, num_classes=1, conv1_t_stride=2
    ),
    "resnet50": lambda: resnet50(
        spatial_dims=3, n_input_channels=1, num_classes=1, conv1_t_stride=2
    ),
}


def build_classifier(backbone: str, seed: int) -> nn.Module:
    """Build a backbone with one input channel and one output, the log odds of malignancy.

    Args:
        backbone: One of BACKBONES.
        seed: Determines the initial weights.

    Returns:
        The network, on the CPU.

    Raises:
        InputError: There is no such backbone.
    """
    if backbone not in BACKBONES:
        raise InputError(
            "there is no such backbone",
            got=backbone,
            expected=" or ".join(BACKBONES),
            remedy="Choose one of these.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BACKBONES[backbone]()


def train_classifier(
    volumes: NDArray[np.floating],
    malignant: NDArray[np.bool_],
    backbone: str,
    settings: DiagnosisSettings,
    seed: int,
    device: torch.device,
) -> nn.Module:
    """Train a classifier for a fixed number of epochs, without model selection.

    Args:
        volumes: (n, z, y, x) in 0..1.
        malignant: (n,) the labels.
        backbone: One of BACKBONES.
        settings: Epochs, batch, rate and further settings.
        seed: Determines initial weights, order and symmetries.
        device: The device that computes.

    Returns:
        The network in evaluation mode, on the device.

    Raises:
        InputError: There are fewer than two nodules or only one kind, the device cannot train in
            the precision, or the loss is not finite any more.
    """
    if len(malignant) < 2 or malignant.all() or not malignant.any():
        raise InputError(
            "a classifier cannot learn from this",
            got=f"{int(malignant.sum())} malignant of {len(malignant)} nodules",
            expected="some of both kinds",
            remedy="Add nodules of the other kind, or use fewer folds.",
        )
    if device.type == "cpu" and settings.precision == "bfloat16":
        # With torch 2.13 gradients of convolutions over some small volumes contain uninitialised
        # memory (matting.learned.layers.SMALL_SIDE).
        raise InputError(
            "a classifier cannot be trained in this precision",
            got="bfloat16 on a CPU, whose gradients of small volumes are wrong",
            expected="auto or single",
            remedy="Set diagnosis.precision to auto.",
        )
    network = build_classifier(backbone, seed).to(device).train()
    optimizer = torch.optim.Adam(
        network.parameters(), settings.rate, weight_decay=settings.weight_decay, fused=True
    )
    # Batches of at least the size set: a last batch of one could not be normalised.
    steps = max(1, len(malignant) // settings.batch)
    for epoch in range(settings.epochs):
        for step, batch in enumerate(
            np.array_split(draw_order(len(malignant), seed, epoch), steps)
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(epoch * steps + step, steps, settings.rate, settings)
            inputs = torch.stack(
                [_augmented(volumes, int(n), settings, seed, epoch) for n in batch]
            ).to(device)
            truth = torch.from_numpy(malignant[batch].astype(np.float32)).to(device)
            loss = binary_cross_entropy_with_logits(_log_odds(network, inputs, settings), truth)
            if not math.isfinite(loss.item()):
                raise InputError(
                    "the classifier's loss is not finite any more",
                    got=f"{loss.item()} in epoch {epoch + 1}",
                    expected="a finite loss",
                    remedy="Lower the rate, or compute in single precision.",
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    _recompute_batch_norm(network, volumes, settings)
    return network.eval()


def classify(
    network: nn.Module, volumes: NDArray[np.floating], settings: DiagnosisSettings
) -> NDArray[np.float64]:
    """Return the log odds of malignancy (n,) of volumes (n, z, y, x) in 0..1.

    Args:
        network: As `train_classifier` returned it.
        volumes: (n, z, y, x) in 0..1.
        settings: As in the training.
    """
    device = next(network.parameters()).device
    scores = []
    with torch.inference_mode():
        for start in range(0, len(volumes), settings.batch):
            part = torch.from_numpy(volumes[start : start + settings.batch].astype(np.float32))[
                :, None
            ]
            scores.append(_log_odds(network, part.to(device), settings).double().cpu().numpy())
    return np.concatenate(scores)


def _recompute_batch_norm(
    network: nn.Module, volumes: NDArray[np.floating], settings: DiagnosisSettings
) -> None:
    """Recompute the running means and variances over all training nodules, with the final weights.

    Those accumulated during training lag behind; after a short training they are far off.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None
    device = next(network.parameters()).device
    with torch.no_grad():
        for part in np.array_split(volumes, max(1, len(volumes) // settings.batch)):
            _log_odds(
                network, torch.from_numpy(part.astype(np.float32))[:, None].to(device), settings
            )


def _log_odds(network: nn.Module, inputs: Tensor, settings: DiagnosisSettings) -> Tensor:
    precision = resolve_precision(settings.precision, inputs.device)
    # Half precision would need loss scaling.
    with autocast(inputs.device, "single" if precision == "half" else precision):
        output: Tensor = network(inputs)
    return output.float()[:, 0]


def _augmented(
    volumes: NDArray[np.floating], index: int, settings: DiagnosisSettings, seed: int, epoch: int
) -> Tensor:
    """Return one volume (1, z, y, x), randomly flipped and rotated."""
    volume = torch.from_numpy(volumes[index].astype(np.float32))[None]
    if not settings.symmetries:
        return volume
    axes, flips = draw_symmetry(tuple(volume.shape[1:]), seed, epoch, index)
    return volume.permute(axes).flip(flips)


def fold_patients(
    patients: Sequence[str], malignant: NDArray[np.bool_], folds: int, seed: int
) -> NDArray[np.int64]:
    """Divide patients into folds, stratified by whether they have a malignant nodule.

    Args:
        patients: (n,) the patient of each nodule.
        malignant: (n,) the labels.
        folds: Number of folds, 2 or more.
        seed: Determines the assignment.

    Returns:
        (n,) the fold of each nodule.

    Raises:
        InputError: A fold would lack one kind of nodule.
    """
    with_malignant = {patient for patient, mark in zip(patients, malignant, strict=True) if mark}
    generator = np.random.default_rng([seed, folds])
    fold_of: dict[str, int] = {}
    for group in (sorted(with_malignant), sorted(set(patients) - with_malignant)):
        for patient in generator.permutation(np.array(group, dtype=object)):
            fold_of[patient] = len(fold_of) % folds
    places = np.array([fold_of[patient] for patient in patients], np.int64)
    for fold in range(folds):
        kinds = malignant[places == fold]
        if not len(kinds) or kinds.all() or not kinds.any():
            raise InputError(
                "the nodules are too few for so many folds",
                got=f"{int(malignant.sum())} malignant and {int((~malignant).sum())} benign "
                f"nodules for {folds} folds",
                expected="both kinds in every fold",
                remedy="Use fewer folds or more patients.",
            )
    return places
