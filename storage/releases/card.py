"""The card of a release: its README, which hubs of data sets read too."""

import re

import yaml

from matting.targets import FORMS_OF, MEANINGS, TARGETS
from storage.records import TableFacts
from storage.releases.about import LICENSES
from storage.releases.contents import LIDC, ReleaseContents, format_counts
from storage.releases.index import COLUMNS, describe_column

_ATTRIBUTION = """\
Scans and annotations whose source is LIDC-IDRI are from The Cancer Imaging Archive (CC BY 3.0).
Cite Armato et al., Data From LIDC-IDRI, TCIA 2015, doi:10.7937/K9/TCIA.2015.LO9QL9SX, and Armato
et al., Medical Physics 38:915-931, 2011."""

_NO_LICENSE = """\
Scans that are not from LIDC-IDRI keep their license, which is not stated here."""

_OTHER_SCANS = """\
Scans that are not from LIDC-IDRI keep their own license."""

_METHOD = """\
The method is that of Wang et al., 3D Matting, arXiv:2210.05104."""

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

EXAMPLE = """\
```python
from pathlib import Path

import pandas as pd
import zarr

row = pd.read_parquet("index.parquet").iloc[0]  # one row per nodule; paths begin at this folder
case = zarr.open_group(Path(row.image_path).parent, mode="r")
image_hu = case["image"][:]  # (z, y, x) int16
methods = case.attrs["halosign"]["methods"]
alpha = case["alpha"][methods.index(row.method)]  # (z, y, x) in 0..1
```"""
READING = re.compile(r"(?<=\n## How to read it\n\n).*?(?=\n\n## )", re.DOTALL)
"""The section of a card whose text depends on where the card lies."""


def dataset_card(contents: ReleaseContents) -> bytes:
    """Write the README of a release."""
    version = contents.version
    recipe = contents.recipe
    total = len(contents.members)
    discarded = len(contents.discarded)
    picked = sum(member.automatic for member in contents.members)
    page = f"""{_front_matter(contents)}# {contents.title}

{_warning(contents)}{contents.summary}

![CT of a nodule of this release, its readers' outlines, and its matte](matte.png)

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

{EXAMPLE}

## Columns of `index.parquet`

| column | content |
|---|---|
{_column_rows(contents)}

{_USE}
## Source and license

{_terms(contents)}
"""
    return page.encode()


def _front_matter(contents: ReleaseContents) -> str:
    """Write what a hub of data sets reads first: license, task, size, and which file to load."""
    license_ = contents.license
    is_known = license_ in LICENSES
    front = {
        "pretty_name": contents.title,
        "license": license_.lower() if is_known else "other" if license_ else "unknown",
        **({"license_name": license_} if license_ and not is_known else {}),
        "task_categories": ["image-segmentation"],
        "tags": ["medical", "CT", "lung-nodule", "alpha-matting", "3D"],
        "size_categories": [_size_category(len(contents.members))],
        # One row per nodule. A split named train would hold the nodules of all splits.
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "nodules", "path": "index.parquet"}],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n"


def _size_category(count: int) -> str:
    """Return the class of sizes that a count falls into, as hubs name them."""
    bounds = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6))
    return next((name for name, end in bounds if count < end), "n>1M")


def _column_rows(contents: ReleaseContents) -> str:
    kept = sorted(
        {
            f"source_{name}"
            for facts in contents.facts.values()
            if isinstance(facts.source, TableFacts)
            for name in facts.source.columns
        }
    )
    return "\n".join(f"| `{name}` | {describe_column(name)} |" for name in (*COLUMNS, *kept))


def _terms(contents: ReleaseContents) -> str:
    lines = []
    license_ = contents.license
    if contents.about.license:
        address = LICENSES.get(license_)
        lines.append(
            f"License of this data set: {f'[{license_}]({address})' if address else license_}."
        )
    if LIDC in contents.sources:
        lines.append(_ATTRIBUTION)
    if set(contents.sources) != {LIDC}:
        lines.append(_OTHER_SCANS if contents.about.license else _NO_LICENSE)
    lines.append(_METHOD)
    if contents.about.authors:
        lines.append(f"Authors: {'; '.join(contents.about.authors)}.")
    if contents.about.contact:
        lines.append(f"Contact: {contents.about.contact}.")
    return "\n\n".join(lines)


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
