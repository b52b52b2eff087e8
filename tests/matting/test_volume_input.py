"""What the public functions accept and refuse, whatever the kind of their arguments."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matting import METHODS, InputError, Parameters, Solution, Status, estimate_alphas, solve
from matting.parameters import (
    ClosedFormSettings,
    InformationFlowSettings,
    LearningBasedSettings,
    SolverSettings,
)
from tests.references import random_scene

SCENE = random_scene(51)
WHOLE_HU = np.round(SCENE.hu)
"""Radiodensities that every kind of number holds exactly."""
PLAIN = {"volume_hu": WHOLE_HU, "trimap": SCENE.trimap, "spacing_mm": (0.5, 0.5, 0.5)}


def answer(methods: str | tuple[str, ...] = ("cf", "knn+"), **changes: Any) -> dict[str, bytes]:
    solved = estimate_alphas(**(PLAIN | {"methods": methods} | changes))
    assert all(solution.converged for solution in solved.values())
    return {name: solution.alpha.tobytes() for name, solution in solved.items()}


def gradient_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).requires_grad_()


def masked(array: np.ndarray, where: Any = False) -> np.ma.MaskedArray:
    return np.ma.MaskedArray(array, np.broadcast_to(where, array.shape))


ACCEPTED = {
    "float32": {"volume_hu": WHOLE_HU.astype(np.float32)},
    "float16": {"volume_hu": WHOLE_HU.astype(np.float16)},
    "extended precision": {"volume_hu": WHOLE_HU.astype(np.longdouble)},
    "int16": {"volume_hu": WHOLE_HU.astype(np.int16)},
    "big-endian int16": {"volume_hu": WHOLE_HU.astype(">i2")},
    "big-endian float64": {"volume_hu": WHOLE_HU.astype(">f8")},
    "nested lists": {"volume_hu": WHOLE_HU.tolist(), "trimap": SCENE.trimap.tolist()},
    "a list of slices": {"volume_hu": list(WHOLE_HU), "trimap": list(SCENE.trimap)},
    "tensors on the CPU": {
        "volume_hu": torch.from_numpy(WHOLE_HU),
        "trimap": torch.from_numpy(SCENE.trimap),
    },
    "masked arrays without a masked voxel": {
        "volume_hu": masked(WHOLE_HU),
        "trimap": masked(SCENE.trimap),
        "spacing_mm": masked(np.full(3, 0.5)),
    },
    "labels as float": {"trimap": SCENE.trimap.astype(float)},
    "labels as int64": {"trimap": SCENE.trimap.astype(np.int64)},
    "labels as big-endian int16": {"trimap": SCENE.trimap.astype(">i2")},
    "one spacing": {"spacing_mm": 0.5},
    "one spacing of NumPy": {"spacing_mm": np.float32(0.5)},
    "spacing as an array": {"spacing_mm": np.array([0.5, 0.5, 0.5])},
    "spacing as a tensor": {"spacing_mm": torch.tensor([0.5, 0.5, 0.5])},
    "methods as a list": {"methods": ["cf", "knn+"]},
    "methods as an iterator": {"methods": iter(("cf", "knn+"))},
    "a method twice": {"methods": ("cf", "knn+", "cf")},
    "default parameters": {"parameters": Parameters()},
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_accepts_what_has_a_clear_meaning_and_gives_the_same_bytes(kind: str) -> None:
    given = answer(**ACCEPTED[kind])
    assert list(given) == ["cf", "knn+"]
    assert given == answer()


REFUSED = {
    "masked voxels": (
        {"volume_hu": masked(WHOLE_HU, SCENE.foreground)},
        r"the volume is masked: got \d+ masked values, .*-1000 HU",
    ),
    "masked voxels over NaN": (
        {"volume_hu": masked(np.where(SCENE.unknown, np.nan, WHOLE_HU), SCENE.unknown)},
        "the volume is masked",
    ),
    "masked slices in a list": (
        {"volume_hu": [masked(part, part == part.max()) for part in WHOLE_HU]},
        "the volume is masked",
    ),
    "masked labels": ({"trimap": masked(SCENE.trimap, SCENE.unknown)}, "the trimap is masked"),
    "masked spacing": (
        {"spacing_mm": masked(np.full(3, 0.5), [True, False, False])},
        "the spacing is masked",
    ),
    "complex numbers": (
        {"volume_hu": WHOLE_HU.astype(complex)},
        r"the volume holds no real numbers: got complex numbers \(complex128\)",
    ),
    "truth values": ({"volume_hu": WHOLE_HU > 0}, r"got truth values \(bool\)"),
    "objects": ({"volume_hu": WHOLE_HU.astype(object)}, r"got Python objects .*astype\(float\)"),
    "text": ({"volume_hu": WHOLE_HU.astype(str)}, "got text"),
    "text of variable length": (
        {"volume_hu": WHOLE_HU.astype(np.dtypes.StringDType())},
        "got text",
    ),
    "None": ({"volume_hu": None}, "got Python objects"),
    "ragged lists": (
        {"volume_hu": [[[1.0, 2.0], [3.0]]]},
        "the volume cannot be read as an array: got list .*rows of equal length",
    ),
    "a tensor with a gradient": (
        {"volume_hu": gradient_tensor(WHOLE_HU)},
        r"cannot be read as an array: got torch.Tensor .*detach\(\).cpu\(\).numpy\(\)",
    ),
    "a tensor without data": (
        {"volume_hu": torch.empty(WHOLE_HU.shape, device="meta")},
        "cannot be read as an array: got torch.Tensor",
    ),
    "raw values": (
        {"volume_hu": (WHOLE_HU + 1024).astype(np.uint16)},
        r"not in HU: got values from \d+ to \d+, none below 0, .*rescale slope",
    ),
    "raw values as float": ({"volume_hu": WHOLE_HU + 1024.0}, "not in HU"),
    "intensities": ({"volume_hu": SCENE.intensity}, "not in HU: .*solver.intensity_range_hu"),
    "a truth-value trimap": (
        {"trimap": SCENE.foreground},
        r"the trimap holds no real numbers: got truth values .*build_trimap",
    ),
    "a trimap as text": ({"trimap": SCENE.trimap.astype(str)}, "the trimap holds no real numbers"),
    "labels 0, 1, 2": ({"trimap": SCENE.trimap // 127}, r"unknown labels: got \[1, 2\]"),
    "labels 0 to 1": (
        {"trimap": SCENE.trimap / 255.0},
        r"unknown labels: got \[0.50\d+, 1.0\], expected 0 background",
    ),
    "labels with NaN": (
        {"trimap": np.where(SCENE.unknown, np.nan, SCENE.trimap)},
        r"unknown labels: got \[nan\]",
    ),
    "labels as int8": ({"trimap": SCENE.trimap.astype(np.int8)}, r"unknown labels: got \[-128, -1"),
    "spacing as text": ({"spacing_mm": "0.5"}, "spacing must be positive: got 0.5"),
    "spacing as a truth value": ({"spacing_mm": True}, "spacing must be positive: got True"),
    "no spacing": ({"spacing_mm": None}, "spacing must be positive: got None, .*one for cubic"),
    "complex spacing": ({"spacing_mm": (1j, 1.0, 1.0)}, "spacing must be positive"),
    "nested spacing": ({"spacing_mm": [[0.5, 0.5, 0.5]]}, "spacing must be positive"),
    "spacing in metres": (
        {"spacing_mm": (0.0025, 0.0007, 0.0007)},
        "spacing is hardly in mm: got .* expected 0.001 to 100 mm. .*metres or micrometres",
    ),
    "spacing in micrometres": ({"spacing_mm": 500.0}, "spacing is hardly in mm"),
    "vanishing spacing": ({"spacing_mm": 1e-9}, "spacing is hardly in mm"),
    "vast means": (
        {
            "spacing_mm": 0.01,
            "parameters": Parameters(closed_form=ClosedFormSettings(mean_reach_mm=3.0)),
        },
        "means of the second channel reach far beyond the volume: got 3 mm at",
    ),
    "parameters as a dict": (
        {"parameters": {"knn": {}}},
        "parameters are of another type: got dict, expected matting.Parameters",
    ),
    "parameters as an empty dict": ({"parameters": {}}, "parameters are of another type"),
    "a section for all parameters": (
        {"parameters": SolverSettings()},
        "got matting.parameters.SolverSettings",
    ),
    "a section as a dict": (
        {"parameters": Parameters(solver={"tolerance": 1e-6})},  # type: ignore[arg-type]
        "the section solver .* got dict, expected matting.parameters.SolverSettings",
    ),
    "an unknown name": ({"methods": "cg"}, "no such method: got 'cg', .*'cf'"),
    "several names in one string": ({"methods": "cf, knn"}, "no such method: got 'cf, knn'"),
    "methods as a number": ({"methods": 3}, "methods is no sequence of names: got int"),
    "methods as None": ({"methods": None}, "got NoneType, .*Leave it out"),
    "no method": ({"methods": ()}, "no method is asked for"),
    "a method that is no string": ({"methods": ("cf", 3)}, "no such method: got 3"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refuses_what_has_no_clear_meaning_in_words(kind: str) -> None:
    changes, message = REFUSED[kind]
    with pytest.raises(InputError, match=message):
        estimate_alphas(**(PLAIN | changes))


def test_one_name_stands_for_a_sequence_of_one() -> None:
    assert answer("cf") == answer(("cf",))


def test_one_method_is_checked_like_many() -> None:
    with pytest.raises(InputError, match=r"no such method: got \('cf',\)"):
        solve(("cf",), **PLAIN)  # type: ignore[arg-type]


def test_a_range_of_the_values_own_makes_any_scale_acceptable() -> None:
    own = Parameters(solver=SolverSettings(intensity_range_hu=(0.0, 255.0), intensity_curve=0.0))
    hu = Parameters(solver=SolverSettings(intensity_curve=0.0))
    gray = SCENE.intensity * 255.0
    scaled = solve("cf", gray, SCENE.trimap, spacing_mm=1.0, parameters=own).alpha
    straight = solve("cf", SCENE.hu, SCENE.trimap, spacing_mm=1.0, parameters=hu).alpha
    np.testing.assert_allclose(scaled, straight, atol=1e-9)


@pytest.mark.parametrize("spacing_mm", [1e-3, 100.0])
@pytest.mark.parametrize("method", METHODS)
def test_spacings_at_the_limits_are_solved(method: str, spacing_mm: float) -> None:
    parameters = Parameters(
        solver=SolverSettings(search_margin_mm=200.0),
        closed_form=ClosedFormSettings(mean_reach_mm=0.0),
        learning_based=LearningBasedSettings(mean_reach_mm=0.0),
        information_flow=InformationFlowSettings(local_mean_reach_mm=0.0),
    )
    solved = solve(method, SCENE.hu, SCENE.trimap, spacing_mm=spacing_mm, parameters=parameters)
    assert np.isfinite(solved.alpha).all()


def test_an_infinite_search_margin_is_the_whole_patch() -> None:
    infinite, large = (
        answer(("knn",), parameters=Parameters(solver=SolverSettings(search_margin_mm=margin)))
        for margin in (np.inf, 1e4)
    )
    assert infinite == large


def ordered(array: np.ndarray, order: str, dtype: str) -> np.ndarray:
    """The same values in another order of memory, as another type, read-only."""
    values = array.astype(dtype)
    if order == "Fortran":
        result = np.asfortranarray(values)
    elif order == "reversed":
        result = np.flip(values).copy()[::-1, ::-1, ::-1]
    elif order == "strided":
        wide = np.zeros((*values.shape[:2], 2 * values.shape[2]), dtype)
        wide[:, :, ::2] = values
        result = wide[:, :, ::2]
    else:
        result = values
    result.flags.writeable = False
    return result


@settings(max_examples=25, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i4", ">i8"]),
    labels=st.sampled_from(["u1", "<i2", ">i4", "<f4", ">f8"]),
    orders=st.tuples(*[st.sampled_from(["C", "Fortran", "reversed", "strided"])] * 2),
)
def test_type_order_and_byte_order_change_no_byte_and_no_input(
    method: str, seed: int, dtype: str, labels: str, orders: tuple[str, str]
) -> None:
    scene = random_scene(seed)
    hu = np.round(scene.hu)
    plain = solve(method, hu, scene.trimap, spacing_mm=scene.spacing_mm)
    volume, trimap = ordered(hu, orders[0], dtype), ordered(scene.trimap, orders[1], labels)
    other = solve(method, volume, trimap, spacing_mm=list(scene.spacing_mm))
    assert other.alpha.tobytes() == plain.alpha.tobytes()
    assert (other.status, other.iterations) == (plain.status, plain.iterations)
    assert other.alpha.flags.c_contiguous
    assert np.array_equal(volume, hu)
    assert np.array_equal(trimap, scene.trimap)


def test_a_solution_shows_itself_in_one_line() -> None:
    solution = Solution(np.zeros((26, 186, 186)), Status.CONVERGED, 22, 6.3e-8, 0.01)
    assert repr(solution) == (
        "Solution(converged, alpha 26x186x186, 22 iterations, residual 6.3e-08)"
    )
    failed = Solution(np.zeros((3, 3, 3)), Status.OUT_OF_ITERATIONS, 2000, 0.1, 0.0)
    assert repr(failed).startswith("Solution(out of iterations, alpha 3x3x3, 2000 iterations")
