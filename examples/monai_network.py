"""Train a network of MONAI's on a release, and predict the held-out nodules for `halosign score`.

    python examples/monai_network.py ./store 0.2.0 --epochs 20 --out ./monai
    halosign score --release 0.2.0 --store ./store --predictions ./monai

MONAI's SegResNet learns the released mattes as soft labels: cross-entropy with alpha, no trimap, no
auxiliary masks. It works on voxels of twice the release's spacing. Replace `build` by your network.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets.segresnet import SegResNet
from numpy.typing import NDArray
from torch import Tensor, nn

import halosign

RANGE_HU = (-1000.0, 400.0)
"""Radiodensity that the network sees as 0 and as 1."""
POOLING = 2
"""Voxels of the release along each axis that are averaged into one of the network's."""
MULTIPLE = 8
"""Sizes that the network takes are multiples of this: it halves them three times."""
CROP = 96
"""Voxels of the release along each axis of the largest crop."""


def main() -> None:
    """Train, predict, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", help="folder or URL of a store")
    parser.add_argument("version", help="published version, e.g. 0.2.0")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder for one npz a nodule")
    arguments = parser.parse_args()

    release = halosign.open_release(arguments.store, arguments.version)
    network = build(arguments.seed)
    train(network, release, arguments.epochs, arguments.seed)
    reader = halosign.ReleaseReader(release)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in reader.nodules("test"):
        alpha = predict(network, reader.read(name, "image"), reader.read(name, "validity") > 0)
        grid = reader.grid(name)
        np.savez_compressed(
            arguments.out / f"{name}.npz",
            alpha=alpha,
            spacing_mm=grid.spacing_mm,
            origin_lps_mm=grid.origin_lps_mm,
            axes_lps=grid.axes_lps,
        )
    print(f"{len(reader.nodules('test'))} predictions in {arguments.out}")


def build(seed: int) -> nn.Module:
    """Return an untrained network: one channel in, one logit out."""
    torch.manual_seed(seed)
    return SegResNet(
        spatial_dims=3,
        init_filters=8,
        in_channels=1,
        out_channels=1,
        norm=("INSTANCE", {}),
        blocks_down=(1, 2, 2, 2),
        blocks_up=(1, 1, 1),
    )


def train(network: nn.Module, release: halosign.Release, epochs: int, seed: int) -> None:
    """Train on one crop of each nodule in an epoch, four to a step; crops differ in size."""
    crops = halosign.ReleaseDataset(
        release,
        "train",
        crop_zyx=CROP,
        seed=seed,
        focus=1.0,
        fitted=MULTIPLE * POOLING,
        transform=prepare,
    )
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    steps = epochs * -(-len(crops) // 4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = np.random.default_rng(seed)
    network.train()
    for epoch in range(epochs):
        crops.set_epoch(epoch)
        total = 0.0
        shuffled = order.permutation(len(crops))
        for first in range(0, len(shuffled), 4):
            batch = shuffled[first : first + 4]
            for index in batch:
                crop = crops[index]
                logits = network(crop["image"])
                each = F.binary_cross_entropy_with_logits(logits, crop["alpha"], reduction="none")
                loss = (each * crop["valid"]).sum() / crop["valid"].sum() / len(batch)
                loss.backward()
                total += float(loss.detach()) * len(batch)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(crops):.4f}", flush=True)


def prepare(crop: dict[str, Any]) -> dict[str, Tensor]:
    """Return image (0..1), alpha and validity of a crop as (1, 1, z, y, x), flipped at random."""
    axes = [axis for axis in (2, 3, 4) if torch.rand(()) < 0.5]
    tensors = {
        "image": to_intensity(crop["image"][None]),
        "alpha": crop["alpha"][None],
        "valid": crop["valid"][None].float(),
    }
    return {name: F.avg_pool3d(tensor, POOLING).flip(axes) for name, tensor in tensors.items()}


def predict(
    network: nn.Module, image_hu: NDArray[Any], valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return alpha (z, y, x) of a volume; 0 where nothing was measured."""
    measured = np.nonzero(valid)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in measured)
    image = torch.from_numpy(np.where(valid, image_hu, RANGE_HU[0])[box].astype(np.float32))
    missing = [-size % (MULTIPLE * POOLING) for size in image.shape]
    padding = [n for size in reversed(missing) for n in (0, size)]
    padded = to_intensity(F.pad(image[None, None], padding, value=RANGE_HU[0]))
    network.eval()
    with torch.inference_mode():
        coarse = network(F.avg_pool3d(padded, POOLING)).sigmoid()
        fine = F.interpolate(coarse, scale_factor=POOLING, mode="trilinear")
    alpha = np.zeros(valid.shape, np.float32)
    z, y, x = image.shape
    alpha[box] = fine[0, 0, :z, :y, :x].numpy()
    return np.where(valid, alpha, np.float32(0))


def to_intensity(image_hu: Tensor) -> Tensor:
    """Scale radiodensity to 0..1."""
    low, high = RANGE_HU
    return ((image_hu - low) / (high - low)).clamp(0, 1)


if __name__ == "__main__":
    main()
