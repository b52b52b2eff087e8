"""The card of a published network: its README, which hubs of networks read too."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import yaml

from matting.targets import MEANINGS
from storage.errors import NotFoundError
from storage.layout import RELEASES
from storage.records import UNSTATED, CheckpointConfig
from storage.releases.about import LICENSES
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import Checkpoint
from storage.results.prediction_scores import MeanScore
from tasks.scoring.mattes import READERS_MEAN
from tasks.scoring.nodule_classes import ALL
from tasks.scoring.predictions import PREDICTION

METRICS_TABLE = "metrics.csv"
_NAMES = {
    "sad": "SAD",
    "mse": "MSE",
    "grad": "Grad",
    "conn": "Conn",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
}
"""Metrics of the card, by the name in the table."""
_TRUTHS = {
    "released": "the released mattes",
    "known": "the known mattes of the simulated scans",
    "readers": "the masks of the readers",
}
_REGIONS = {
    "unknown": "the unknown voxels of the trimap",
    "near": "the readers' union and 5 mm around it",
    "whole": "the whole patch",
}
_TERMS = re.compile(r"^## Source and license\n+(.*?)\s*(?=^## |\Z)", re.DOTALL | re.MULTILINE)
"""The section of a release's card that says whose the scans are."""

_USE = """\
## Intended use

Research on soft segmentation of lung nodules in CT: computing alpha mattes of nodules whose place
is known, and comparing methods. It is research software and not a medical device. Do not use it for
diagnosis, for measuring a patient's nodule or for choosing a treatment.

## Limits

- The network learned patches around nodules: it mattes a nodule whose place is known, and does not
  find nodules.
- What it learned are mattes that were estimated from CT and readers' outlines, not measurements of
  tissue.
- It normalises over its input, so the same nodule gets slightly other values in another crop; crops
  as large as those of the training are closest to what it learned.
- The metrics below are of one split of one release. Other scanners, protocols and populations were
  not measured.
"""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card is written from."""

    name: str
    checkpoint: Checkpoint
    reader: ReleaseReader
    """The release on the partition that it was trained on."""
    scores: Sequence[MeanScore]
    """Measured when published, on the test split."""
    license: str
    """Of the weights; empty where nobody stated one."""
    has_onnx: bool
    maps: tuple[str, ...]
    """Channels of the ONNX file's output."""


def summary(config: CheckpointConfig, label: str) -> str:
    """Return what a network is, in one sentence."""
    meaning = f", {MEANINGS[config.target]}" if config.target else ""
    return (
        f"{label.upper()} estimates a 3D alpha matte of a lung nodule from CT alone, without a "
        f"trimap: for every voxel a number from 0 to 1{meaning}."
    )


def network_card(facts: CardFacts) -> bytes:
    """Write the README of a published network."""
    config = facts.checkpoint.config
    release = facts.reader.release
    page = f"""{_front_matter(facts)}# {facts.name}

{_warning(release)}{summary(config, facts.checkpoint.label)}

It is an independent reimplementation of Wang et al., 3D Matting, arXiv:2210.05104, trained with
Halosign.

{_USE}
## Data

{_data(facts)}
## Training

{_training(config)}
## Metrics

{_metrics(facts)}
## How to run it

{_running(facts)}
## Files

{_files(facts)}
## License

{_license(facts)}
"""
    return page.encode()


def _front_matter(facts: CardFacts) -> str:
    """Write what a hub of networks reads first: license, task, tags and results."""
    license_ = facts.license
    is_known = license_ in LICENSES
    config = facts.checkpoint.config
    results = {
        "task": {"type": "image-segmentation"},
        "dataset": {
            "name": f"Halosign release {config.release}",
            "type": "halosign",
            "split": "test",
        },
        "metrics": [
            {
                "type": score.metric,
                "name": f"{_NAMES[score.metric]}, {_REGIONS[score.region]}",
                "value": float(f"{score.mean:.6g}"),
            }
            for score in _own(facts.scores)
            if score.truth == "released"
        ],
    }
    front = {
        "license": license_.lower() if is_known else "other" if license_ else "unknown",
        **({"license_name": license_} if license_ and not is_known else {}),
        "library_name": "monai",
        "pipeline_tag": "image-segmentation",
        "tags": [
            "medical",
            "CT",
            "lung-nodule",
            "alpha-matting",
            "3D",
            "monai",
            *(["onnx"] if facts.has_onnx else []),
            *(["synthetic"] if config.synthetic else []),
        ],
        "model-index": [{"name": facts.name, "results": [results]}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n"


def _warning(release: Release) -> str:
    count = _synthetic(release)
    if not count:
        return ""
    return (
        f"> **Synthetic data.** {count} of {len(release.members)} scans are simulated. Nothing "
        "here describes a patient.\n\n"
    )


def _synthetic(release: Release) -> int:
    return sum(member.synthetic for member in release.members.values())


def _data(facts: CardFacts) -> str:
    reader, config = facts.reader, facts.checkpoint.config
    release = reader.release
    splits = reader.splits
    rows = []
    for split, count in sorted(Counter(splits.values()).items()):
        patients = {reader.member(name).patient_id for name, own in splits.items() if own == split}
        rows.append(f"| {split} | {count} | {len(patients)} |")
    title = f" ({release.manifest.about.title})" if release.manifest.about.title else ""
    partition = (
        f"partition {config.partition} of the patients"
        if config.partition
        else "the release's own splits, by patient"
    )
    return f"""- Release {config.release}{title}.
- SHA-256 of its manifest: `{release.manifest_sha256}`.
- Form of the mattes that it learned: {config.matte_form or "first edition"}.
- Question that they answer: {config.target or "none asked"}.
- Simulated scans: {_synthetic(release)} of {len(release.members)}.
- Splits: {partition}.

| split | nodules | patients |
|---|---:|---:|
{_lines(rows)}
"""


def _training(config: CheckpointConfig) -> str:
    training = config.training
    crop = "x".join(map(str, training.crop_zyx))
    low, high = config.intensity_range_hu
    seconds = [row.get("seconds") for row in config.epochs]
    known = [float(value) for value in seconds if isinstance(value, int | float)]
    time = f", {sum(known) / 60:.0f} min" if len(known) == len(config.epochs) else ""
    code = ", ".join(f"{name} {value}" for name, value in sorted(config.code.items()) if value)
    points = f" and {config.negatives} points without one" if config.negatives else ""
    crops = f"{config.nodules} nodules{points}"
    return f"""- {len(config.epochs)} epochs over {crops}{time} on {config.device}.
- Batches of {training.batch}, crops of at most {crop} voxels of {config.spacing_mm:g} mm.
- Input: CT of {low:g} to {high:g} HU, scaled to 0..1 and cut there.
- Checkpoint `{config.digest}`; {code}.
"""


def _metrics(facts: CardFacts) -> str:
    own = _own(facts.scores)
    first = next(iter(own), None)
    if first is None:
        return "None: nothing could be measured.\n"
    theirs = {
        (score.truth, score.region, score.metric): score
        for score in facts.scores
        if score.group == ALL and score.matte == READERS_MEAN
    }
    rows = []
    for score in own:
        other = theirs.get((score.truth, score.region, score.metric))
        rows.append(
            f"| {_TRUTHS[score.truth]} | {_REGIONS[score.region]} | {_NAMES[score.metric]} "
            f"| {score.nodules} | {_interval(score)} | {_interval(other) if other else ''} |"
        )
    return f"""Measured when the network was published, on the split `test` of the release:
{first.patients} patients whom the training did not see. Means over nodules with 95 % intervals by
patient, which one patient alone does not have; lower is better. SAD, Grad and Conn are sums over
voxels. The last column is the mean of the readers' masks, a matte for comparison.
`{METRICS_TABLE}` also has the methods of the release, and classes of nodules.

| against | over | metric | nodules | this network | {READERS_MEAN} |
|---|---|---|---:|---:|---:|
{_lines(rows)}
"""


def _own(scores: Iterable[MeanScore]) -> list[MeanScore]:
    """Return the network's means over all nodules that the card shows."""
    return [
        score
        for score in scores
        if (score.group, score.matte) == (ALL, PREDICTION) and score.metric in _NAMES
    ]


def _interval(score: MeanScore) -> str:
    if score.low is None or score.high is None:
        return _number(score.mean)
    return f"{_number(score.mean)} ({_number(score.low)} to {_number(score.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _running(facts: CardFacts) -> str:
    config = facts.checkpoint.config
    text = f"""With Halosign, on a CT in HU and a voxel z,y,x in the nodule:

```sh
halosign predict --checkpoint ./{facts.name} --image ct.nii.gz --point 61,240,310 --out ./prediction
```

As a bundle of MONAI, in an environment with Halosign: files of nodules cut out of a CT (`.nii`,
`.nii.gz`) are in `images/`, the maps of each are written to `predictions/`:

```sh
cd {facts.name}
python -c "from monai.bundle import run; run(config_file='configs/inference.json')"
```
"""
    if not facts.has_onnx:
        return text
    low, high = config.intensity_range_hu
    return f"""{text}
With onnxruntime alone, on voxels of {config.spacing_mm:g} mm and sizes that are multiples of 16
(pad with air at the end):

```python
import numpy as np
import onnxruntime

image_hu = np.load("nodule.npy")  # (z, y, x), in HU
session = onnxruntime.InferenceSession("model.onnx")
image = np.clip((image_hu - {low}) / {high - low}, 0, 1).astype(np.float32)
(maps,) = session.run(None, {{"image": image[None, None]}})  # channels: {", ".join(facts.maps)}
alpha = maps[0, 0]
```
"""


def _files(facts: CardFacts) -> str:
    files = {
        "config.json, weights.safetensors": "the network as `halosign predict` reads it",
        **({"model.onnx": "the same as ONNX, of any batch and size"} if facts.has_onnx else {}),
        "configs/, models/": "the same as a bundle of MONAI",
        METRICS_TABLE: "every metric, with its interval and the difference from other mattes",
        "files.json": "SHA-256 of every file",
    }
    rows = [f"| {name} | {what} |" for name, what in files.items()]
    return f"| file | content |\n|---|---|\n{_lines(rows)}"


def _license(facts: CardFacts) -> str:
    stated = facts.license
    address = LICENSES.get(stated)
    weights = f"[{stated}]({address})" if address else stated or "not stated by the publisher"
    about = facts.reader.release.manifest.about
    data = [
        f"Weights: {weights}.",
        "Data that the network was trained on, which is not part of this folder:",
        _terms(facts.reader.release),
    ]
    if about != UNSTATED and about.contact:
        data.append(f"Contact of the release: {about.contact}.")
    return "\n\n".join(data)


def _terms(release: Release) -> str:
    """Return what the release's own card says of its source and license."""
    try:
        card = release.store.get(f"{RELEASES}/{release.version}/README.md").decode()
    except (NotFoundError, UnicodeDecodeError):
        card = ""
    found = _TERMS.search(card)
    return found[1] if found else "Its card does not state a license."


def _lines(rows: Iterable[str]) -> str:
    return "\n".join(rows)
