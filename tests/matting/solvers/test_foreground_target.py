import numpy as np
import pytest

from matting.parameters import DensitySettings
from matting.solvers.foreground_target import foreground_target


@pytest.mark.parametrize(
    ("hu", "target"),
    [(-2000, 0.0), (-1350, 0.0), (-600, 0.5), (-225, 0.75), (150, 1.0), (3000, 1.0)],
)
def test_the_lung_window_maps_to_zero_and_one(hu: float, target: float) -> None:
    assert foreground_target(np.array([hu]), DensitySettings()) == pytest.approx(target)


@pytest.mark.parametrize(
    ("hu", "target"),
    [(-225, 0.75), (150, 1.0), (300, 1.0), (400, 0.8), (550, 0.5), (800, 0.0), (2000, 0.0)],
)
def test_above_the_high_end_the_target_falls(hu: float, target: float) -> None:
    assert foreground_target(
        np.array([hu]), DensitySettings(high_hu=300.0, fall_hu=500.0)
    ) == pytest.approx(target)


def test_level_and_width_place_the_window() -> None:
    hu = np.array([-100.0, 0.0, 50.0, 100.0])
    assert foreground_target(hu, DensitySettings(level_hu=50.0, width_hu=100.0)).tolist() == [
        0.0,
        0.0,
        0.5,
        1.0,
    ]


def test_the_shape_is_kept_and_the_target_is_double() -> None:
    target = foreground_target(np.zeros((2, 3), np.float32), DensitySettings())
    assert target.shape == (2, 3)
    assert target.dtype == np.float64
