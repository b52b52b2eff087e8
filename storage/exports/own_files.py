"""A release's own files in an export: card, index and metadata speak of the files that are there.

The other files of the release are copied as they are.
"""

import hashlib
import io
import json
from collections.abc import Collection, Mapping

import pandas as pd

from storage.exports.released_nodule import SYNTHETIC_NOTE
from storage.records import ExportMarker, Member
from storage.releases.card import READING
from storage.releases.index import write_parquet
from storage.releases.release import Release

_INDEX, _CARD, _CROISSANT = "index.parquet", "README.md", "croissant.json"
_PATHS = {
    "zarr": ("{nodule}/image", "{nodule}/matte"),
    "nifti": ("{nodule}/image.nii.gz", "{nodule}/alpha.nii.gz"),
    "npz": ("{nodule}/nodule.npz", "{nodule}/nodule.npz"),
    "dicom-seg": (None, "{nodule}/alpha.dcm"),
    "nnunet": ("images{part}/{nodule}_0000.nii.gz", "soft{part}/{nodule}.nii.gz"),
}
"""Where image and matte of a nodule are, by format."""

_FIRST_ROW = """\
import pandas as pd

row = pd.read_parquet("index.parquet").iloc[0]  # one row per nodule; paths begin at this folder
"""
_HOW_TO_READ = {
    "zarr": f"""\
Each folder is one nodule, an OME-Zarr 0.5 group. `matte` is the released matte, `alpha` has all
eight, in the order of the attribute `halosign.methods`; `image` is in HU, `labels/readers/0` has
one mask per reader.

```python
{_FIRST_ROW}
import zarr

image_hu = zarr.open_array(row.image_path, mode="r")[:]
alpha = zarr.open_array(row.alpha_path, mode="r")[:]  # (z, y, x) in 0..1
```""",
    "nifti": f"""\
Each folder is one nodule. `alpha.nii.gz` is the released matte, `image.nii.gz` the CT in HU,
`reader-1.nii.gz` and so on the readers' masks, `trimap.nii.gz` has 0 for background, 128 for
unknown and 255 for foreground. All files have the same lattice.

```python
{_FIRST_ROW}
import nibabel

image_hu = nibabel.load(row.image_path).get_fdata()
alpha = nibabel.load(row.alpha_path).get_fdata()  # (x, y, z) in 0..1; .affine maps to RAS mm
```""",
    "npz": f"""\
Each folder is one nodule. Axes are (z, y, x), `spacing_mm` is the voxel spacing along them,
`axes_lps` has one row per axis, and voxel (k, j, i) is at `origin_lps_mm + ([k, j, i] *
spacing_mm) @ axes_lps` in LPS mm.

```python
{_FIRST_ROW}
import numpy as np

nodule = np.load(row.alpha_path)  # no pickle needed
alpha, image_hu = nodule["matte"], nodule["image"]  # (z, y, x)
```""",
    "dicom-seg": f"""\
Each folder is one nodule. `alpha.dcm` is the released matte as DICOM Segmentation, FRACTIONAL,
OCCUPANCY: 255 means 1. It has its own isotropic lattice, in the study and frame of reference of
the CT that it refers to. The CT itself is not in this folder.

```python
{_FIRST_ROW}
import highdicom

volume = highdicom.seg.segread(row.alpha_path).get_volume()
alpha = volume.array[..., 0]  # (z, y, x) in 0..1
```""",
    "nnunet": f"""\
This folder is a raw data set of nnU-Net v2. `imagesTr` has the CT in HU of the splits train and
validation, `labelsTr` a mask for each: 1 where at least half of the readers marked the voxel.
`softTr` has the released mattes in 0..1, which nnU-Net does not read. `imagesTs`, `labelsTs` and
`softTs` have the same of the split test. Name the folder DatasetNNN_Halosign, with an id NNN that
is free, and put it into nnUNet_raw. nnU-Net's own folds may divide the nodules of a patient: after
planning, copy `splits_final.json`, where it is there, to nnUNet_preprocessed/DatasetNNN_Halosign,
so that fold 0 is the split of the release.

```python
{_FIRST_ROW}
import nibabel

image_hu = nibabel.load(row.image_path).get_fdata()
alpha = nibabel.load(row.alpha_path).get_fdata()  # (x, y, z) in 0..1
mask = alpha > 0.5  # another label: where the matte says that half is lesion
```""",
}


def adapt_files(
    files: Mapping[str, bytes], format_: str, members: Mapping[str, Member]
) -> dict[str, bytes]:
    """Return card, index and metadata of a release as they read in an export.

    Releases of earlier versions may lack a file, a section or a column; what is there is adapted.

    Args:
        files: The release's own files by name.
        format_: Of the export.
        members: The nodules that it holds, by id.
    """
    adapted: dict[str, bytes] = {}
    if _CARD in files:
        text = files[_CARD].decode()
        adapted[_CARD] = READING.sub(lambda _: _HOW_TO_READ[format_], text, count=1).encode()
    if _INDEX in files:
        adapted[_INDEX] = _adapt_index(files[_INDEX], format_, members)
    if _CROISSANT in files and _INDEX in files:
        card = json.loads(files[_CROISSANT])
        for file in card["distribution"]:
            if file["name"] == _INDEX:
                file["sha256"] = hashlib.sha256(adapted[_INDEX]).hexdigest()
        adapted[_CROISSANT] = json.dumps(card, indent=2, ensure_ascii=False).encode() + b"\n"
    return adapted


def _adapt_index(data: bytes, format_: str, members: Mapping[str, Member]) -> bytes:
    """Keep the rows of the nodules that are there, and name their files."""
    table = pd.read_parquet(io.BytesIO(data))
    table = table[table["nodule_id"].isin(members)].reset_index(drop=True)
    for column, template in zip(("image_path", "alpha_path"), _PATHS[format_], strict=True):
        table[column] = [_path(template, members[name]) for name in table["nodule_id"]]
    return write_parquet(table)


def _path(template: str | None, member: Member) -> str | None:
    part = "Ts" if member.split == "test" else "Tr"
    return template.format(nodule=member.nodule_id, part=part) if template else None


def format_page(
    release: Release,
    marker: ExportMarker,
    members: Collection[str],
    left_out: Collection[str],
) -> bytes:
    """Write ``FORMAT.md``: what the folder holds, and how to read it.

    Args:
        release: Which is exported.
        marker: Of the folder.
        members: The nodules that it holds.
        left_out: Those that its format cannot hold.
    """
    page = f"# Halosign {release.version} as {marker.format}\n\n"
    if release.manifest.synthetic:
        page += f"> **{SYNTHETIC_NOTE.capitalize()}.**\n\n"
    if marker.selection:
        page += (
            f"This is a part of the release, {len(members)} of its"
            f" {len(release.members)} nodules: {marker.selection}. `index.parquet` has these; the"
            " other files of the release (README.md, splits.csv and others) describe all.\n\n"
        )
    if left_out:
        page += (
            f"Left out, since they do not come from a DICOM series: {', '.join(left_out)}."
            " `index.parquet` does not have them; the other files of the release describe them"
            " too.\n\n"
        )
    end = "\n\n`sha256sum -c checksums.sha256` checks every file. README.md describes the data.\n"
    return (page + _HOW_TO_READ[marker.format] + end).encode()
