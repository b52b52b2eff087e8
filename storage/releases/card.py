"""What a release says of itself: the card people read, the index and the splits that programs read."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from storage.releases.contents import LIDC, ReleaseContents, listed
from storage.releases.release import Member

_ATTRIBUTION = """\
The scans and annotations are LIDC-IDRI's (The Cancer Imaging Archive, CC BY 3.0), where the source says so. Cite
Armato et al., Data From LIDC-IDRI, TCIA 2015, doi:10.7937/K9/TCIA.2015.LO9QL9SX, and Armato et al., Medical Physics
38:915-931, 2011. The method is that of Wang et al., 3D Matting, arXiv:2210.05104."""

_NO_LICENCE = """\
The scans are not LIDC-IDRI's: the licence of the scans is the licence of this data. The method is that of Wang et al.,
3D Matting, arXiv:2210.05104."""

_USE = """\
## What it is for

Training and scoring methods of soft segmentation, and studying how readers disagree about a nodule's edge.

It is not for diagnosis, for measuring a patient's nodule or for choosing a treatment, and no medical device was tested
with it.

## Known limits

- A matte is an estimate from the CT and the readers' outlines, not a measurement: no tissue was looked at.
- Inside the trimap's known regions a matte is exactly 0 or 1, so the band's width bounds how soft a border can be.
- Mattes that were picked automatically were ranked by figures that need no truth; nobody looked at them.
- Only nodules that the asked number of readers marked are here: small and doubtful ones are missing.
- Lesions that touch vessels or the pleura have the least certain borders.

"""

_EXAMPLE = """\
```python
import pandas as pd, zarr

store = "{url}"
index = pd.read_csv(f"{{store}}/releases/{version}/splits.csv")
row = index.iloc[0]
case = zarr.open_group(f"{{store}}/cases/{{row.nodule}}/{{row.digest}}", mode="r")
image_hu = case["image"][:]
alpha = case["alpha"][case.attrs["halosign"]["methods"].index(row.method)]
```"""


def index_table(members: Sequence[Member], facts: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Write one row a nodule as Parquet: who it is, what was chosen, where it lies, how it was rated."""
    rows = [_index_row(member, facts[member.nodule_id]) for member in members]
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer, index=False)
    return buffer.getvalue()


def split_table(members: Sequence[Member]) -> bytes:
    """Write nodule, patient, digest, method and split as CSV."""
    rows = [{"nodule": m.nodule_id, "patient": m.patient_id, "digest": m.digest, "method": m.method, "split": m.split}
            for m in members]  # fmt: skip
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def dataset_card(composition: ReleaseContents) -> bytes:
    """Write the README of a release."""
    version, recipe, members = composition.version, composition.recipe, composition.members
    picked = sum(member.automatic for member in members)
    parts = f"""# {composition.title}

{_warning(composition)}{composition.summary}

## What is in it

- {len(members)} nodules of {composition.patients} patients; {len(composition.discarded)} discarded in review.
- Sources: {listed(composition.sources)}; simulated scans: {composition.stand_ins}.
- Kinds by the readers' mean texture rating: {listed(composition.kinds)}.
- Splits by patient: {composition.count("split")}.
- Chosen mattes: {composition.count("method")}; {picked} picked automatically, {len(members) - picked} by people.
- Readers of each nodule: {recipe["readers"]}, each mask kept beside the mattes.
- Lattice: {recipe["resample"]["spacing_mm"]} mm, axes (z, y, x), coordinates in patient space (LPS).
- Trimap: unknown band of {recipe["trimap"]["dilation_mm"]} mm around the readers' disagreement.
- `fingerprint.csv` says of each nodule its size, slice distance, HU, volumes and the readers' agreement,
  `fingerprint.json` how these are spread, and `fingerprint.png` shows it.
- `manifest.json` names every file with its SHA-256 and holds the whole recipe; `halosign release verify {version}`
  reads them all. `CHANGES.md` says what differs from the version before.

## Read it

{_EXAMPLE.format(url=composition.url, version=version)}

{_USE}
## Source and licence

{_ATTRIBUTION if LIDC in composition.sources else _NO_LICENCE}
"""
    return parts.encode()


def _warning(composition: ReleaseContents) -> str:
    if not composition.stand_ins:
        return ""
    count = f"{composition.stand_ins} of {len(composition.members)}"
    return (
        f"> **Stand-in data.** {count} scans are simulated. Nothing here describes a patient.\n\n"
    )


def _index_row(member: Member, facts: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(member, name) for name in Member.__dataclass_fields__}
    geometry = facts["geometry"]
    row |= {f"shape_{axis}": size for axis, size in zip("zyx", geometry["shape"], strict=True)}
    row |= {
        f"origin_lps_mm_{axis}": mm
        for axis, mm in zip("xyz", geometry["origin_lps_mm"], strict=True)
    }
    row |= {
        "spacing_mm": geometry["spacing_mm"][0],
        "unknown_voxels": facts["trimap"]["unknown_voxels"],
    }
    for name, value in facts["figures"]["methods"][member.method].items():
        row[f"figure_{name}"] = value
    return row
