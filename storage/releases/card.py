"""The card of a release, for people, and its index and splits, for programs."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from matting.targets import FORMS_OF, MEANINGS, TARGETS
from storage.records import CaseFacts, Member, to_json
from storage.releases.contents import LIDC, ReleaseContents, format_counts

_ATTRIBUTION = """\
Scans and annotations whose source is LIDC-IDRI are from The Cancer Imaging Archive (CC BY 3.0).
Cite Armato et al., Data From LIDC-IDRI, TCIA 2015, doi:10.7937/K9/TCIA.2015.LO9QL9SX, and Armato
et al., Medical Physics 38:915-931, 2011. The method is that of Wang et al., 3D Matting,
arXiv:2210.05104."""

_NO_LICENCE = """\
The scans are not from LIDC-IDRI: this data set has the licence of its scans. The method is that
of Wang et al., 3D Matting, arXiv:2210.05104."""

_USE = """\
## Intended use

Training and evaluating methods of soft segmentation, and studying how readers disagree about the
border of a nodule.

Do not use it for diagnosis, for measuring a patient's nodule or for choosing a treatment. It was
not tested with any medical device.

## Known limits

- A matte is an estimate from the CT and the readers' outlines, not a measurement: no tissue was
  examined.
- Inside the known regions of the trimap a matte is exactly 0 or 1 (a + form: the radiodensity
  target in place of 1), so the width of the unknown band limits how soft a border can be.
- Mattes that were picked automatically were ranked by metrics that need no ground truth; nobody
  looked at them. The rank is that of the method's family, whichever question is asked.
- Only nodules that were marked by the required number of readers are included: small and doubtful
  ones are missing.
- The borders of lesions that touch vessels or the pleura are the least certain.

"""

_EXAMPLE = """\
```python
import pandas as pd, zarr

store = "."  # the folder or URL of the store with this release
index = pd.read_csv(f"{{store}}/releases/{version}/splits.csv")
row = index.iloc[0]
case = zarr.open_group(f"{{store}}/cases/{{row.nodule}}/{{row.digest}}", mode="r")
image_hu = case["image"][:]
alpha = case["alpha"][case.attrs["halosign"]["methods"].index(row.method)]
```"""


def index_table(members: Sequence[Member], facts: Mapping[str, CaseFacts]) -> bytes:
    """Write ``index.parquet``: one row per nodule with its choice, geometry and candidate metrics.

    Args:
        members: The release's nodules.
        facts: Of their cases, by nodule id.
    """
    rows = [_index_row(member, facts[member.nodule_id]) for member in members]
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer, index=False)
    return buffer.getvalue()


def split_table(members: Sequence[Member]) -> bytes:
    """Write ``splits.csv``: nodule, patient, digest, method and split."""
    rows = [
        {
            "nodule": member.nodule_id,
            "patient": member.patient_id,
            "digest": member.digest,
            "method": member.method,
            "split": member.split,
        }
        for member in members
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def dataset_card(contents: ReleaseContents) -> bytes:
    """Write the README of a release."""
    version = contents.version
    recipe = contents.recipe
    total = len(contents.members)
    discarded = len(contents.discarded)
    picked = sum(member.automatic for member in contents.members)
    page = f"""# {contents.title}

{_warning(contents)}{contents.summary}

## Contents

- {total} nodules of {contents.patient_count} patients; {discarded} discarded in review.
- Sources: {format_counts(contents.sources)}; simulated scans: {contents.synthetic_count}.
- Kinds by the readers' mean texture rating: {format_counts(contents.kinds)}.
- Splits by patient: {contents.count("split")}.
- Question that the release answers: {_question(contents)}
- Parameters of the matting methods: {format_counts(contents.form_names)}.
- Released mattes by method: {contents.count("method")}; by family:
  {format_counts(contents.families)}; {picked} picked automatically, {total - picked} by people.
- Readers of each nodule: {recipe["readers"]}; each reader's mask is stored beside the mattes.
- Lattice: {recipe["resample"]["spacing_mm"]} mm, axes (z, y, x), coordinates in patient space
  (LPS).
- Trimap: the unknown band extends {recipe["trimap"]["dilation_mm"]} mm around the readers'
  disagreement.
- `fingerprint.csv` has size, slice distance, HU, volumes and reader agreement of every nodule,
  `fingerprint.json` their quantiles, and `fingerprint.png` their histograms.
- `manifest.json` has the SHA-256 of every file and the whole recipe; `halosign release verify
  {version}` checks all files. `CHANGES.md` lists the differences from the previous version.

## How to read it

{_EXAMPLE.format(version=version)}

{_USE}
## Source and licence

{_ATTRIBUTION if LIDC in contents.sources else _NO_LICENCE}
"""
    return page.encode()


def _question(contents: ReleaseContents) -> str:
    target, total, others = contents.target, len(contents.members), len(contents.other_question)
    other = next(one for one in TARGETS if one != target)
    answer = (
        f"{target}, {MEANINGS[target]}.\n"
        f"  {total - others} mattes are of {FORMS_OF[target]}, which answer it; "
        f"{others} are of {FORMS_OF[other]}"
    )
    if others:
        answer += f",\n  chosen by reviewers: they answer the other question, {other}"
    return f"{answer}."


def _warning(contents: ReleaseContents) -> str:
    if not contents.synthetic_count:
        return ""
    count = f"{contents.synthetic_count} of {len(contents.members)}"
    return (
        f"> **Synthetic data.** {count} scans are simulated. Nothing here describes a patient.\n\n"
    )


def _index_row(member: Member, facts: CaseFacts) -> dict[str, Any]:
    row: dict[str, Any] = {**to_json(member), "form": member.form}
    grid = facts.geometry
    row |= {f"shape_{axis}": size for axis, size in zip("zyx", grid.shape, strict=True)}
    row |= {f"origin_lps_mm_{axis}": mm for axis, mm in zip("xyz", grid.origin_lps_mm, strict=True)}
    row |= {"spacing_mm": grid.spacing_mm[0], "unknown_voxels": facts.trimap.unknown_voxels}
    metrics = facts.scores.methods[member.method]
    return row | {f"figure_{name}": value for name, value in metrics.items()}
