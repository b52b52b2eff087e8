"""The files that make the folder of a network a bundle of MONAI, and the engine that runs it.

Spec    https://docs.monai.io/en/stable/mb_specification.html: configs/metadata.json,
        configs/inference.json and models/model.pt, which holds a state dictionary. It is read with
        ``weights_only``, so nothing in it is executed.

A bundle names classes and does not contain them: it runs where Halosign is installed. Images are
files of nodules cut out of a CT, each predicted in one piece; MONAI interpolates them, and where
they have the network's spacing the maps are those of `halosign predict`.
"""

import io
import json
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from matting.learned.maps import MapsNetwork
from matting.learned.network import STRIDE
from storage.records import CheckpointConfig, JsonObject
from storage.results.networks import LICENSE_KEY, METADATA

INFERENCE = "configs/inference.json"
STATE = "models/model.pt"
_IMAGE, _MAPS = "image", "maps"
_MEANINGS = {
    "alpha": "share of lesion in the voxel",
    "overlap": "probability that all readers mark the voxel",
    "union": "probability that any reader marks the voxel",
}


class BundleEngine:
    """Runs a network over a data set: the `evaluator` of a bundle, without pytorch-ignite.

    Args:
        dataset: Items with the key `image`, (1, z, y, x), preprocessed.
        network: In evaluation mode or not, with its weights.
        inferer: As MONAI's, called with a batch and the network.
        postprocessing: Called with each item, which has the key `maps` then.
        device: Where the network is.
    """

    def __init__(
        self,
        dataset: Iterable[dict[str, Any]],
        network: nn.Module,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        postprocessing: Callable[[dict[str, Any]], object],
        device: torch.device,
    ) -> None:
        self.dataset = dataset
        self.network = network
        self.inferer = inferer
        self.postprocessing = postprocessing
        self.device = device

    def run(self) -> None:
        """Predict every item."""
        from monai.data.meta_tensor import MetaTensor  # seconds to import, seldom needed

        self.network.eval()
        for item in self.dataset:
            with torch.inference_mode():
                image = item[_IMAGE].as_tensor()[None].to(self.device)
                maps = self.inferer(image, self.network)[0].cpu()
            # Of the class that `Invertd` asks for, and no tensor of the inference mode
            self.postprocessing({**item, _MAPS: MetaTensor(maps.clone())})


def bundle_files(
    config: CheckpointConfig, network: MapsNetwork, *, name: str, license_: str, description: str
) -> dict[str, bytes]:
    """Return the files of the bundle, by path below its folder.

    Args:
        config: Of the checkpoint.
        network: With its weights, on the CPU.
        name: Of the network.
        license_: Of the weights; empty where nobody stated one.
        description: One sentence.
    """
    state = io.BytesIO()
    torch.save(network.state_dict(), state)
    return {
        METADATA: _json(_metadata(config, network.map_names, name, license_, description)),
        INFERENCE: _json(_inference(config, network.map_names)),
        STATE: state.getvalue(),
    }


def _metadata(
    config: CheckpointConfig, maps: tuple[str, ...], name: str, license_: str, description: str
) -> JsonObject:
    shape = [f"{STRIDE}*{letter}" for letter in "ijk"]
    common = {
        "type": "image",
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": True,
    }
    low, high = config.intensity_range_hu
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": "published"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "halosign": version("halosign"),
            "nibabel": version("nibabel"),
        },
        "name": name,
        "task": "3D alpha mattes of lung nodules in CT",
        "description": description,
        "authors": "See README.md",
        "copyright": "See README.md",
        LICENSE_KEY: license_,
        "data_source": f"Halosign release {config.release}; see README.md",
        "data_type": "nibabel",
        "image_classes": f"CT at {config.spacing_mm:g} mm, {low:g} to {high:g} HU scaled to 0..1, "
        "axes (z, y, x)",
        "pred_classes": ", ".join(maps),
        "intended_use": "Research software. Not for diagnosis or treatment.",
        "references": ["Wang et al., 3D Matting, arXiv:2210.05104"],
        "network_data_format": {
            "inputs": {
                _IMAGE: {
                    **common,
                    "format": "hounsfield",
                    "modality": "CT",
                    "num_channels": 1,
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    **common,
                    "format": "probabilities",
                    "num_channels": len(maps),
                    "channel_def": {
                        str(place): f"{name}: {_MEANINGS[name]}" for place, name in enumerate(maps)
                    },
                }
            },
        },
    }


def _inference(config: CheckpointConfig, maps: tuple[str, ...]) -> JsonObject:
    low, high = config.intensity_range_hu
    outputs = [f"{_MAPS}_{name}" for name in maps]
    return {
        "imports": ["$import glob", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "images": "$@dataset_dir + '/*.nii*'",
        "output_dir": "$@bundle_root + '/predictions'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": f"{MapsNetwork.__module__}.{MapsNetwork.__name__}",
            "variant": config.variant,
            "auxiliary": config.auxiliary,
        },
        "state": f"$torch.load(@bundle_root + '/{STATE}', map_location='cpu', weights_only=True)",
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": _IMAGE, "reader": "NibabelReader"},
                {"_target_": "EnsureChannelFirstd", "keys": _IMAGE},
                {
                    "_target_": "Spacingd",
                    "keys": _IMAGE,
                    "pixdim": [config.spacing_mm] * 3,
                    "mode": "bilinear",
                },
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": _IMAGE,
                    "a_min": low,
                    "a_max": high,
                    "b_min": 0.0,
                    "b_max": 1.0,
                    "clip": True,
                },
                {
                    "_target_": "DivisiblePadd",
                    "keys": _IMAGE,
                    "k": STRIDE,
                    "mode": "constant",
                    "method": "end",
                },
                # Files have (x, y, z), the network (z, y, x).
                {"_target_": "Transposed", "keys": _IMAGE, "indices": [0, 3, 2, 1]},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": f"$[{{'{_IMAGE}': path}} for path in sorted(glob.glob(@images))]",
            "transform": "@preprocessing",
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "Invertd",
                    "keys": _MAPS,
                    "orig_keys": _IMAGE,
                    "transform": "@preprocessing",
                    "nearest_interp": False,
                },
                {"_target_": "SplitDimd", "keys": _MAPS, "output_postfixes": list(maps)},
                *(
                    {
                        "_target_": "SaveImaged",
                        "keys": key,
                        "output_dir": "@output_dir",
                        "output_postfix": name,
                        "resample": False,
                        "separate_folder": True,
                    }
                    for key, name in zip(outputs, maps, strict=True)
                ),
            ],
        },
        "evaluator": {
            "_target_": f"{BundleEngine.__module__}.{BundleEngine.__name__}",
            "dataset": "@dataset",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "device": "@device",
        },
        "initialize": ["$@network_def.load_state_dict(@state)"],
        "run": ["$@evaluator.run()"],
    }


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
