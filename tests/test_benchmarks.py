import numpy as np
import pytest

from tests.references import Scene, closed_form, random_scene


def test_the_textbook_laplacian_is_that_of_the_formula() -> None:
    from benchmarks.textbook import laplacian

    scene = random_scene(3)
    everywhere = Scene(scene.intensity, np.ones(scene.intensity.shape, bool), scene.foreground, scene.spacing_mm)
    penalty = np.arange(scene.intensity.size, dtype=np.float64)
    got = laplacian(scene.intensity, 1e-3, penalty).toarray()
    np.testing.assert_allclose(got, closed_form(everywhere, 1e-3) + np.diag(penalty), atol=1e-12)


def test_a_spread_has_both_ends_and_no_doubles() -> None:
    from benchmarks.nodules import spread

    assert spread("abcdefg", 3) == ["a", "d", "g"]
    assert spread("abc", 10) == ["a", "b", "c"]


def test_slices_are_given_as_the_peer_takes_them() -> None:
    pytest.importorskip("pymatting")
    from benchmarks.nodules import Ready
    from benchmarks.peers import peer_estimators, solve_slices
    from matting.trimap import BACKGROUND, FOREGROUND, UNKNOWN
    from tests.phantoms import ball_patch

    patch = ball_patch()
    core, union = patch.readers.all(axis=0), patch.readers.any(axis=0)
    labels = np.where(core, FOREGROUND, np.where(union, UNKNOWN, BACKGROUND)).astype(np.uint8)
    slices = set(np.flatnonzero((labels == UNKNOWN).any(axis=(1, 2))))
    with_core = {z for z in slices if core[z].any()}
    assert with_core < slices
    for estimator in peer_estimators().values():
        solved = solve_slices(Ready("ball", patch, labels), estimator, cut=True)
        assert set(solved) == with_core
        for z, alpha in solved.items():
            assert (alpha[core[z]] > 0.9).all()
            assert (alpha[~union[z]] < 0.1).all()


def test_the_page_says_what_is_missed() -> None:
    from benchmarks.page import textbook

    side = {"seconds": 1.0, "megabytes": 2.0, "iterations": 3}
    report = {"id": "N", "unknown_voxels": 1000, "patch_voxels": 2000, "ratios": {"seconds": 199.0, "megabytes": 15.0}}
    report |= dict.fromkeys(("ours", "ours, pulled", "textbook"), side)
    text = textbook({**report, "mean_difference": {"ours": 1.1e-3, "ours, pulled": 1e-6}})
    verdicts = [line.rstrip(".").split()[-1] for line in text.splitlines() if "wanted: m" in line]
    assert verdicts == ["missed", "met", "met"]
    assert "| ours | 1 | 2 | 3 |" in text
