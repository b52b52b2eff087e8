import numpy as np
import pytest

from matting.errors import InputError
from matting.measures.metrics import (
    PAPER_CROP_MM3,
    MatteErrors,
    MatteWithGradient,
    connectivity_error,
    gradient_error,
    matte_errors,
    mean_absolute_error,
    mse,
    paper_sized_mse,
    sad,
)

TRUTH = np.zeros((2, 3, 4))
ALPHA = np.zeros((2, 3, 4))
ALPHA[0, 0, :2] = (0.5, 1.0)
TRUTH[1, 2, 3] = 0.25
REGION = np.zeros((2, 3, 4), bool)
REGION[0, 0] = REGION[1, 2, 3] = True
EVERY = [sad, mse, mean_absolute_error, gradient_error, connectivity_error]


def test_by_hand() -> None:
    assert sad(ALPHA, TRUTH, REGION) == pytest.approx(1.75)
    assert mse(ALPHA, TRUTH, REGION) == pytest.approx((0.25 + 1.0 + 0.0625) / 5)
    assert mean_absolute_error(ALPHA, TRUTH, REGION) == pytest.approx(1.75 / 5)


def test_only_the_region_counts() -> None:
    region = np.zeros_like(REGION)
    region[0, 0, 1] = True
    assert sad(ALPHA, TRUTH, region) == mse(ALPHA, TRUTH, region) == 1.0


@pytest.mark.parametrize("measure", EVERY)
def test_is_zero_on_itself_and_symmetric(measure: object) -> None:
    assert measure(ALPHA, ALPHA, REGION) == 0.0
    assert measure(ALPHA, TRUTH, REGION) == measure(TRUTH, ALPHA, REGION)


@pytest.mark.parametrize("measure", EVERY)
def test_single_precision_is_summed_in_double(measure: object) -> None:
    rng = np.random.default_rng(0)
    alpha, truth = rng.random((2, 40, 50, 60)).astype(np.float32)
    region = np.ones(alpha.shape, bool)
    double = measure(alpha.astype(float), truth.astype(float), region)
    assert measure(alpha, truth, region) == pytest.approx(double, rel=1e-12)


@pytest.mark.parametrize("measure", EVERY)
def test_refuses_what_does_not_fit(measure: object) -> None:
    with pytest.raises(
        InputError, match=r"do not fit each other: got \(2, 3, 4\), \(1, 3, 4\) and \(2, 3, 4\)"
    ):
        measure(ALPHA, TRUTH[1:], REGION)


@pytest.mark.parametrize("measure", [mse, mean_absolute_error])
def test_a_mean_over_nothing_is_refused(measure: object) -> None:
    with pytest.raises(InputError, match="a mean needs voxels: got an empty region"):
        measure(ALPHA, TRUTH, np.zeros_like(REGION))


def ramp(slope: float) -> np.ndarray:
    return slope * np.indices((20, 16, 14))[1].astype(float)


INNER = np.zeros((20, 16, 14), bool)
INNER[5:15, 5:11, 5:9] = True


@pytest.mark.parametrize("mode", ["clean", "vector"])
def test_a_ramp_has_the_gradient_of_a_ramp(mode: str) -> None:
    assert gradient_error(ramp(0.05), ramp(0.02), INNER, mode=mode) == pytest.approx(
        INNER.sum() * 0.03**2
    )


def test_opposite_gradients_have_one_length() -> None:
    assert gradient_error(ramp(0.05), 0.8 - ramp(0.05), INNER) == pytest.approx(0.0)
    assert gradient_error(ramp(0.05), 0.8 - ramp(0.05), INNER, mode="vector") == pytest.approx(
        INNER.sum() * 0.1**2
    )


def test_the_dim_kernel_has_unit_norm() -> None:
    point = np.zeros((21, 21, 21))
    point[10, 10, 10] = 1.0
    everywhere = np.ones(point.shape, bool)
    # the response to a point is the kernel itself, once for each of the three axes
    assert gradient_error(point, 0 * point, everywhere, mode="dim") == pytest.approx(3.0)


def test_gradients_near_a_region_s_border_see_beyond_it_and_repeat_the_array_s_edge() -> None:
    rng = np.random.default_rng(4)
    alpha, truth = rng.random((2, 12, 13, 14))
    whole = np.ones(alpha.shape, bool)
    parts = [np.zeros(alpha.shape, bool) for _ in range(2)]
    parts[0][:, :, :6], parts[1][:, :, 6:] = True, True
    total = sum(gradient_error(alpha, truth, part) for part in parts)
    assert total == pytest.approx(gradient_error(alpha, truth, whole))
    assert gradient_error(ramp(0.0) + 0.3, ramp(0.0), np.ones(INNER.shape, bool)) == pytest.approx(
        0.0
    )


def line(*values: float) -> np.ndarray:
    matte = np.zeros((3, 3, len(values) + 2))
    matte[1, 1, 1:-1] = values
    return matte


def test_connectivity_by_hand() -> None:
    alpha, truth = line(1.0, 1.0, 0.6, 0.0, 0.5), line(1.0, 1.0, 0.9, 0.0, 0.0)
    region = np.ones(alpha.shape, bool)
    # third voxel: both reach 0.6, so l = 0.6: phi 1 against 1 - 0.3; fifth: l = 0, phi 1 - 0.5
    # against 1
    assert connectivity_error(alpha, truth, region) == pytest.approx(0.3 + 0.5)


def test_a_piece_apart_from_the_body_is_unconnected() -> None:
    whole, broken = line(1.0, 1.0, 1.0, 0.9, 0.9), line(1.0, 1.0, 1.0, 0.0, 0.9)
    region = np.ones(whole.shape, bool)
    # fourth voxel: l = 0, so 1 - 0.9 against 1; fifth: l = 0 for both, and both are as opaque
    assert connectivity_error(whole, broken, region) == pytest.approx(0.9)


@pytest.mark.parametrize(("excess", "error"), [(0.149, 0.0), (0.151, 0.151)])
def test_a_little_more_than_the_connected_level_is_forgiven(excess: float, error: float) -> None:
    alpha, truth = line(1.0, 1.0, 0.5 + excess), line(1.0, 1.0, 0.5)
    assert connectivity_error(alpha, truth, np.ones(alpha.shape, bool)) == pytest.approx(error)


def test_thresholds_are_tenths_exactly() -> None:
    # 0.1 * 6 is above 0.6 in floating point: summed steps would lose this voxel's level
    alpha, truth = line(1.0, 0.6), line(1.0, 0.74)
    assert connectivity_error(alpha, truth, np.ones(alpha.shape, bool)) == 0.0


def test_diagonal_neighbours_are_not_connected() -> None:
    alpha = np.zeros((4, 4, 4))
    alpha[1, 1, 1:3] = 1.0
    truth = alpha.copy()
    alpha[2, 2, 3] = 0.8
    assert connectivity_error(alpha, truth, np.ones(alpha.shape, bool)) == pytest.approx(0.8)
    assert connectivity_error(0 * alpha, 0 * truth, np.ones(alpha.shape, bool)) == 0.0


def test_no_region_no_error() -> None:
    nothing = np.zeros_like(REGION)
    assert gradient_error(ALPHA, TRUTH, nothing) == connectivity_error(ALPHA, TRUTH, nothing) == 0.0


def test_who_has_left_the_body_does_not_come_back() -> None:
    # at low thresholds the body is the large faint piece; the small bright one is largest only
    # later
    alpha, truth = line(0.3, 0.3, 0.3, 0.0, 1.0), line(0.3, 0.3, 0.3, 0.0, 0.9)
    assert connectivity_error(alpha, truth, np.ones(alpha.shape, bool)) == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(4))
def test_all_metrics_at_once_are_each_by_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha, truth = np.zeros((2, 30, 34, 38))
    alpha[10:15, 12:20, 1:9] = rng.random((5, 8, 8)).round(1)
    truth[11:17, 11:18, 3:12] = rng.random((6, 7, 9)).round(1)
    regions = {"most": rng.random(alpha.shape) > 0.2, "few": rng.random(alpha.shape) > 0.9}
    errors = matte_errors(MatteWithGradient.of(alpha), MatteWithGradient.of(truth), regions)
    for name, region in regions.items():
        expected = [
            measure(alpha, truth, region)
            for measure in (sad, mse, gradient_error, connectivity_error)
        ]
        assert errors[name] == pytest.approx(expected, rel=1e-9)


def test_two_empty_mattes_have_no_error_and_so_has_an_empty_region() -> None:
    nothing = MatteWithGradient.of(0 * ALPHA)
    assert matte_errors(nothing, nothing, {"a": REGION}) == {"a": MatteErrors(0.0, 0.0, 0.0, 0.0)}
    alpha, truth = MatteWithGradient.of(ALPHA), MatteWithGradient.of(TRUTH)
    assert matte_errors(alpha, truth, {"a": 0 * REGION > 0})["a"] == (0.0, 0.0, 0.0, 0.0)


def test_all_metrics_at_once_refuse_what_does_not_fit() -> None:
    alpha, truth = MatteWithGradient.of(ALPHA), MatteWithGradient.of(TRUTH[1:])
    with pytest.raises(InputError, match="do not fit each other"):
        matte_errors(alpha, truth, {"a": REGION})


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 0.5), (1.0, 0.7, 0.7)])
def test_a_paper_sized_mse_does_not_depend_on_how_tightly_a_lesion_is_cut(spacing_mm):
    rng = np.random.default_rng(0)
    alpha, truth = rng.random((2, 6, 7, 8))
    sizes = []
    for pad in (0, 3):
        wide = [np.pad(one, pad) for one in (alpha, truth)]
        region = np.ones(wide[0].shape, bool)
        sizes.append(paper_sized_mse(mse(*wide, region), region.size, spacing_mm))
    assert sizes[0] == pytest.approx(sizes[1])
    voxels = PAPER_CROP_MM3 / np.prod(spacing_mm)
    assert sizes[0] == pytest.approx(((alpha - truth) ** 2).sum() / voxels)
