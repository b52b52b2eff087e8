"""Public functions beside the solvers: what they accept, refuse in words, and print."""

from typing import Any

import numpy as np
import pytest
import torch

from matting import InputError
from matting.geometry.patch import Patch
from matting.geometry.trimap import build_trimap
from matting.learned.prediction import Prediction
from matting.measures import metrics
from matting.parameters import TrimapSettings
from matting.phantoms import Lesion
from tests.phantoms import ball_patch

READERS = ball_patch().readers
VALID = np.ones(READERS.shape[1:], bool)
SETTINGS = TrimapSettings()
METRICS = (
    metrics.sad,
    metrics.mse,
    metrics.mean_absolute_error,
    metrics.gradient_error,
    metrics.connectivity_error,
)
MATTE = np.linspace(0, 1, 6**3).reshape(6, 6, 6)
TRUTH = (MATTE > 0.5).astype(np.float64)
REGION = np.ones(MATTE.shape, bool)


@pytest.mark.parametrize(
    ("readers", "valid", "spacing_mm"),
    [
        (READERS, None, 0.5),
        (READERS.astype(np.uint8), VALID, np.float32(0.5)),
        (READERS.tolist(), VALID.astype(int), [0.5, 0.5, 0.5]),
        (torch.from_numpy(READERS), torch.from_numpy(VALID), torch.tensor([0.5] * 3)),
    ],
)
def test_a_trimap_is_the_same_from_any_kind_of_masks(
    readers: Any, valid: Any, spacing_mm: Any
) -> None:
    plain = build_trimap(READERS, VALID, spacing_mm=(0.5, 0.5, 0.5), parameters=SETTINGS)
    assert (build_trimap(readers, valid, spacing_mm=spacing_mm).labels == plain.labels).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"readers": READERS[0]}, r"readers' masks do not fit .*expected \(readers, z, y, x\)"),
        ({"readers": READERS * 2}, "hold other values than 0 and 1"),
        ({"readers": [[0, 1], [1]]}, "readers' masks cannot be read as an array"),
        ({"readers": None}, "readers' masks do not fit"),
        ({"valid": VALID[1:]}, "validity do not fit the volume"),
        ({"valid": 0.5 * VALID}, "validity hold other values"),
        ({"spacing_mm": "half"}, "spacing must be positive"),
        ({"spacing_mm": (0.5, 0.5)}, "spacing must be positive"),
        ({"spacing_mm": 0}, "spacing must be positive"),
    ],
)
def test_what_is_no_mask_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_trimap(**({"readers": READERS, "spacing_mm": 0.5} | changes))


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_the_same_from_any_kind_of_matte(metric: Any) -> None:
    plain = metric(MATTE, TRUTH, REGION)
    for mattes in (
        (MATTE.tolist(), TRUTH.tolist(), REGION.tolist()),
        (MATTE, TRUTH.astype(np.uint8), REGION),
        (MATTE, TRUTH > 0, REGION),
        tuple(map(torch.from_numpy, (MATTE, TRUTH, REGION))),
    ):
        assert metric(*mattes) == plain


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region": REGION.astype(int)}, "region holds no truth values: got int64"),
        ({"region": REGION[1:]}, "do not fit each other"),
        ({"alpha": MATTE[0]}, "do not fit each other"),
        ({"truth": 1.0}, "do not fit each other"),
        ({"alpha": [[0.5], [0.5, 1]]}, "matte cannot be read as an array"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(
    metric: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        metric(**({"alpha": MATTE, "truth": TRUTH, "region": REGION} | changes))


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (build_trimap(READERS, spacing_mm=0.5), "Trimap(labels=<uint8 "),
        (ball_patch(), "Patch(grid=Grid("),
        (Lesion(MATTE, MATTE, MATTE), "Lesion(image_hu=<float64 6x6x6>, alpha=<float64 6x6x6>"),
        (Prediction(MATTE, None, None), "Prediction(alpha=<float64 6x6x6>, overlap=None, union"),
        (metrics.MatteWithGradient.of(MATTE), "MatteWithGradient(matte=<float64 6x6x6>, "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_notebook_prints_a_line_without_voxels(record: object, shown: str) -> None:
    line = repr(record)
    assert line.startswith(shown)
    assert "\n" not in line
    assert len(line) < 300
    assert isinstance(record, Patch) or "<float64" in line or "<uint8" in line
