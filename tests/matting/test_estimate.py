"""The public functions: what they refuse, and what they promise whatever the method."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from matting import METHODS, InputError, Parameters, Status, estimate_alphas, solve
from matting.parameters import SolverSettings
from tests.references import random_scene

scene = random_scene(51)


def estimate(**changes: object) -> dict:
    given = {
        "volume_hu": scene.hu,
        "trimap": scene.trimap,
        "spacing_mm": scene.spacing_mm,
    } | changes
    return estimate_alphas(**given)


def without(label: int) -> np.ndarray:
    return np.where(scene.trimap == label, 128, scene.trimap).astype(np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trimap": scene.trimap[1:]},
            r"trimap does not fit the volume: got \(\d, \d, \d\), expected",
        ),
        (
            {"volume_hu": np.where(scene.foreground, np.nan, scene.hu)},
            r"got \d+ voxels NaN or infinite",
        ),
        (
            {"volume_hu": np.where(scene.foreground, np.inf, scene.hu)},
            r"got \d+ voxels NaN or infinite",
        ),
        (
            {"trimap": scene.trimap // 2},
            r"unknown labels: got \[64, 127\], expected 0 background, 128 unknown, 255",
        ),
        ({"trimap": without(255)}, "the trimap has no foreground: got no voxel 255"),
        ({"trimap": without(0)}, "the trimap has no background: got no voxel 0"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, r"spacing must be positive: got \(1.0, 0.0, 1.0\)"),
        ({"spacing_mm": (1.0, np.nan, 1.0)}, r"spacing must be positive: got \(1.0, nan, 1.0\)"),
        ({"spacing_mm": (1.0, 1.0)}, "expected three lengths in mm"),
        (
            {"methods": ("cf", "knm")},
            "no such method: got 'knm', expected one of cf, knn.*Did you mean 'knn'",
        ),
        ({"methods": ("CF+",)}, r"no such method: got 'CF\+'.*Did you mean 'cf\+'"),
        (
            {"volume_hu": scene.hu[:2], "trimap": scene.trimap[:2]},
            r"too small for windows.*got \(2, \d, \d\)",
        ),
        ({"volume_hu": scene.hu[0]}, "too small for windows"),
    ],
)
def test_refuses(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(**changes)


@pytest.mark.parametrize(("far", "name"), [(255, "foreground"), (0, "background")])
def test_refuses_known_labels_find_unreproducible(far: int, name: str) -> None:
    trimap = np.full((8, 8, 60), 255 - far, np.uint8)
    trimap[3:5, 3:5, 3:5] = 128
    trimap[0, 0, 59] = far
    volume = np.zeros(trimap.shape)
    with pytest.raises(
        InputError, match=f"no {name} lies near the unknown voxels: got none within 10.0 mm"
    ):
        estimate_alphas(volume, trimap, spacing_mm=(1, 1, 1))
    reaching = Parameters(solver=SolverSettings(search_margin_mm=55.0))
    estimate_alphas(volume, trimap, spacing_mm=(1, 1, 1), parameters=reaching, methods=("cf",))


def test_without_unknown_voxels_the_known_values_are_the_matte() -> None:
    trimap = np.where(scene.unknown, 0, scene.trimap).astype(np.uint8)
    solutions = estimate(trimap=trimap)
    assert list(solutions) == list(METHODS)
    for method, solution in solutions.items():
        assert solution.status is Status.CONVERGED
        assert (solution.iterations, solution.residual, solution.clipped) == (0, 0.0, 0.0)
        assert not solution.alpha[trimap == 0].any()
        assert method.endswith("+") or (solution.alpha[trimap == 255] == 1.0).all()


def test_no_answer_shares_memory_with_another() -> None:
    trimap = np.where(scene.unknown, 0, scene.trimap).astype(np.uint8)
    for solutions in (estimate(), estimate(trimap=trimap)):
        solutions["cf"].alpha[:] = 7.0
        assert solutions["knn"].alpha.max() <= 1.0
        assert solutions["cf+"].alpha.max() <= 1.0


def test_answers_come_in_the_order_asked_for_and_fit_the_volume() -> None:
    solutions = estimate(methods=("if+", "cf"))
    assert list(solutions) == ["if+", "cf"]
    for solution in solutions.values():
        assert solution.alpha.shape == scene.hu.shape
        assert solution.alpha.dtype == np.float64
        assert solution.converged
        assert 0 < solution.iterations <= SolverSettings().max_iterations
        assert 0.0 < solution.residual <= SolverSettings().tolerance


@pytest.mark.parametrize("method", METHODS)
def test_a_method_gives_the_same_bytes_alone_and_in_company(method: str) -> None:
    alone = solve(method, scene.hu, scene.trimap, spacing_mm=scene.spacing_mm)
    joined = estimate(methods=tuple(reversed(METHODS)))[method]
    assert alone.alpha.tobytes() == joined.alpha.tobytes()
    assert (alone.status, alone.iterations, alone.residual) == (
        joined.status,
        joined.iterations,
        joined.residual,
    )


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_and_order_of_memory_do_not_matter(method: str) -> None:
    volume = np.round(scene.hu).astype(np.float32)
    given = {"spacing_mm": scene.spacing_mm}
    plain = solve(method, volume.astype(np.float64), scene.trimap, **given).alpha
    assert plain.tobytes() == solve(method, volume, scene.trimap, **given).alpha.tobytes()
    fortran = solve(
        method, np.asfortranarray(volume), np.asfortranarray(scene.trimap), **given
    ).alpha
    assert np.array_equal(plain, fortran)


@pytest.mark.parametrize("method", METHODS)
def test_a_region_cut_from_a_larger_patch_gives_the_same(method: str) -> None:
    # the margin around the unknown voxels is all that a method may look at
    padding = ((9, 5), (6, 8), (5, 6))
    volume = np.pad(scene.hu, padding, constant_values=-1000.0)
    trimap = np.pad(scene.trimap, padding, constant_values=0)
    wide = np.pad(volume, 7, constant_values=300.0)
    parameters = Parameters(solver=SolverSettings(search_margin_mm=0.0))
    small = solve(method, volume, trimap, spacing_mm=(1, 1, 1), parameters=parameters).alpha
    large = solve(
        method, wide, np.pad(trimap, 7), spacing_mm=(1, 1, 1), parameters=parameters
    ).alpha
    assert np.array_equal(large[7:-7, 7:-7, 7:-7], small)


@pytest.mark.parametrize("method", ["cf", "lb+"])
def test_methods_on_windows_need_no_margin(method: str) -> None:
    volume, trimap = np.pad(scene.hu, 6, mode="reflect"), np.pad(scene.trimap, 6, constant_values=0)
    near, far = (
        solve(
            method,
            volume,
            trimap,
            spacing_mm=(1, 1, 1),
            parameters=Parameters(solver=SolverSettings(search_margin_mm=margin)),
        )
        for margin in (0.0, 100.0)
    )
    assert np.array_equal(near.alpha, far.alpha)


def test_inputs_are_left_as_they_were() -> None:
    volume, trimap = scene.hu.copy(), scene.trimap.copy()
    volume.flags.writeable = trimap.flags.writeable = False
    estimate(volume_hu=volume, trimap=trimap)
    assert np.array_equal(volume, scene.hu)
    assert np.array_equal(trimap, scene.trimap)


PROGRAM = """
import hashlib
from matting import estimate_alphas
from matting.parameters import LearningBasedSettings, Parameters
from tests.references import random_scene
scene = random_scene(51)
digest = hashlib.sha256()
gaussian = Parameters(learning_based=LearningBasedSettings(kernel="gaussian"))
for parameters in (Parameters(), gaussian):
    solved = estimate_alphas(
        scene.hu, scene.trimap, spacing_mm=scene.spacing_mm, parameters=parameters
    )
    for solution in solved.values():
        digest.update(solution.alpha.tobytes())
print(digest.hexdigest())
"""


def digest_in_own_process(threads: int) -> str:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = (
        os.environ
        | dict.fromkeys(names, str(threads))
        | {"PYTHONPATH": str(Path(__file__).parents[2])}
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout.strip()


def test_same_bytes_in_any_process_with_any_number_of_threads() -> None:
    digests = {digest_in_own_process(threads) for threads in (1, 2)}
    assert len(digests) == 1
    assert len(digests.pop()) == hashlib.sha256().digest_size * 2
