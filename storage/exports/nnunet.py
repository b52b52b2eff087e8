"""Export nodules as a raw data set of nnU-Net v2: images, masks, and the mattes beside them.

    imagesTr/NODULE_0000.nii.gz   CT in HU, of the splits train and validation
    labelsTr/NODULE.nii.gz        1 where at least half of the readers marked the voxel, else 0
    softTr/NODULE.nii.gz          the released matte in 0..1, which nnU-Net does not read
    imagesTs, labelsTs, softTs    the same of the split test
    dataset.json                  what nnU-Net must know
    splits_final.json             train and validation of the release as nnU-Net's only fold

The layout is that of nnU-Net's `documentation/dataset_format.md`.
"""

import json
from collections.abc import Mapping

import numpy as np

from storage.exports.nifti import nifti, nifti_note
from storage.exports.released_nodule import SYNTHETIC_NOTE, ReleasedNodule
from storage.records import Member
from storage.releases.release import Release

FILE_ENDING = ".nii.gz"
CT_CHANNEL = "0000"
"""Suffix of the image of the only channel."""


def nnunet_files(nodule: ReleasedNodule) -> dict[str, bytes]:
    """Return image, mask and matte by path; the same nodule gives the same bytes."""
    part = "Ts" if nodule.member.split == "test" else "Tr"
    name = nodule.case.nodule_id
    grid, note = nodule.grid, nifti_note(nodule)
    mask = (nodule.readers().mean(axis=0) >= 0.5).astype(np.uint8)
    return {
        f"images{part}/{name}_{CT_CHANNEL}{FILE_ENDING}": nifti(
            nodule.case.array("image"), grid, note
        ),
        f"labels{part}/{name}{FILE_ENDING}": nifti(mask, grid, note),
        f"soft{part}/{name}{FILE_ENDING}": nifti(nodule.matte, grid, note),
    }


def nnunet_metadata(release: Release, members: Mapping[str, Member]) -> dict[str, bytes]:
    """Return ``dataset.json`` and, where there are nodules of both splits, ``splits_final.json``.

    Args:
        release: In a store.
        members: Its nodules that are exported, by id.
    """
    by_split = {
        split: [name for name, member in members.items() if member.split == split]
        for split in ("train", "validation")
    }
    about = "Lung nodules in CT, outlined by several readers"
    if release.manifest.synthetic:
        about = f"{SYNTHETIC_NOTE.capitalize()}. {about}"
    dataset = {
        "name": "Halosign",
        "description": about,
        "release": release.version,
        # A channel of this name is normalized by the radiodensity of all nodules.
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "nodule": 1},
        "numTraining": sum(map(len, by_split.values())),
        "file_ending": FILE_ENDING,
    }
    files = {"dataset.json": _json(dataset)}
    if all(by_split.values()):
        fold = {"train": by_split["train"], "val": by_split["validation"]}
        files["splits_final.json"] = _json([fold])
    return files


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
