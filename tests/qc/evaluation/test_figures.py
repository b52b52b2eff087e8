"""Figures 1, 7, 8 and 9 and the videos of a small ball: what is on them, and the same bytes each
time."""

import shutil
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from matting.errors import InputError
from matting.geometry.trimap import UNKNOWN
from matting.parameters import Auxiliary
from qc.evaluation import videos
from qc.evaluation.figures import STAND_IN, NoduleOutputs, draw_methods, draw_outputs, draw_readers
from qc.evaluation.tradeoff import draw_tradeoff
from qc.evaluation.videos import (
    TURN_FRAMES,
    find_ffmpeg,
    gif,
    mp4,
    slice_frames,
    still,
    turn_frames,
)
from qc.figures.drawing import DrawnNodule, png
from storage.records import Cost
from storage.results.experiments import Averages
from tests.phantoms import ball_patch

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")


@pytest.fixture(scope="module")
def subject() -> DrawnNodule:
    patch = ball_patch()
    matte = patch.known_alpha
    return DrawnNodule(
        grid=patch.grid,
        image_hu=patch.image_hu,
        valid=patch.valid,
        readers=patch.readers,
        trimap=np.full(patch.grid.shape, UNKNOWN, np.uint8),
        alphas={
            name: np.where(matte > 0.02, matte, 0) * np.float32(1 - 0.1 * n)
            for n, name in enumerate(METHODS)
        },
        why_missing={},
        picked="lb",
        synthetic=True,
    )


def titles(figure) -> list[str]:
    return [panel.get_title() for panel in figure.axes if panel.get_title()]


def words(figure) -> str:
    inside = [text.get_text() for panel in figure.axes for text in panel.texts]
    return " ".join([*inside, *(text.get_text() for text in figure.texts)])


def test_readers_are_held_against_the_released_matte_in_three_planes(subject):
    figure = draw_readers(subject)
    columns = [f"reader {n}" for n in (1, 2, 3, 4)] + ["released matte (lb)"]
    expected = [
        title for plane in ("axial", "coronal", "sagittal") for title in (f"{plane} CT", *columns)
    ]
    assert [title for title in titles(figure) if title != "alpha"] == expected
    # The matte's layer is the released one, not another method's
    axial = figure.axes[5].images[1].get_array()
    assert axial.max() == pytest.approx(subject.alphas["lb"].max(), abs=1e-6)
    assert png(figure) == png(draw_readers(subject))


def test_a_readers_mask_fills_what_it_marked(subject):
    figure = draw_readers(subject)
    filled = [
        (figure.axes[panel].images[1].get_array()[..., 3] > 0).sum() for panel in (1, 2, 3, 4)
    ]
    assert filled == sorted(filled)
    assert filled[0] == subject.readers[0][4:6].any(axis=0).sum()
    assert (
        len({tuple(figure.axes[panel].collections[0].get_edgecolor()[0]) for panel in (1, 2, 3, 4)})
        == 4
    )


def test_the_eight_stand_in_the_papers_order_and_one_that_is_missing_says_so(subject):
    lacking = replace(
        subject, alphas={**subject.alphas, "knn+": np.full(subject.grid.shape, np.nan, np.float32)}
    )
    figure = draw_methods([subject, lacking], ["P-1-a1", "P-2-a2"])
    names = ["CF", "KNN", "LB (released)", "IF", "CF+", "KNN+", "LB+", "IF+"]
    assert [title for title in titles(figure) if title != "alpha"] == [
        title for nodule in ("P-1-a1", "P-2-a2") for title in (nodule, "mean mask", *names)
    ]
    assert words(figure).count("no matte") == 1
    assert STAND_IN in words(figure)


def test_a_networks_outputs_stand_beside_the_truth(subject):
    alpha = subject.alphas["cf"]
    whole = NoduleOutputs(subject, "P-1-a1", alpha, alpha * 0.5, alpha * 0.25)
    bare = NoduleOutputs(replace(subject, synthetic=False), "P-2-a2", alpha, None, None)
    figure = draw_outputs([whole, bare])
    shown = {panel.get_title(): panel.images[0].get_array().max() for panel in figure.axes[:7]}
    assert list(shown)[1:4] == ["true union", "true overlap", "released matte"]
    assert shown["true union"] == 1
    assert shown["predicted union"] == pytest.approx(alpha.max() * 0.5)
    assert shown["predicted overlap"] == pytest.approx(alpha.max() * 0.25)
    assert shown["predicted matte"] == pytest.approx(alpha.max())
    assert words(figure).count("network without\nmasks") == 2
    assert STAND_IN in words(figure)
    assert STAND_IN not in words(draw_outputs([bare]))


def row(matte: str, sad: float) -> Averages:
    return Averages(
        matte, "released", "whole", "0 1", "5 6", sad, 10.0, 2e-4, 1e-5, 50.0, 5.0, 700.0, 70.0
    )


def cost(variant: str, auxiliary: Auxiliary, multiply_adds: int) -> Cost:
    return Cost(
        variant, auxiliary, 1000, multiply_adds, 1.0, 10.0, "16x16x16", 0.1, 3, "a CPU", "2.13"
    )


def test_our_points_stand_beside_the_papers_in_table_units():
    rows = [
        row("3dmm", 900.0),
        row("3dmm-mg (untold)", 1200.0),
        row("cf+", 1.0),
        row("3dmm-m", 5.0),
    ]
    costs = [cost("3dmm", "told", 342_000_000_000), cost("3dmm-mg", "untold", 4_000_000_000)]
    figure = draw_tradeoff(rows, costs, synthetic=True, note="reduced setting")
    assert figure is not None
    panel = figure.axes[0]
    single = [line.get_xydata()[0] for line in panel.lines if len(line.get_xydata()) == 1]
    points = {tuple(map(float, point)) for point in single}
    assert {(342.0, 90.0), (4.0, 120.0)} <= points
    assert {(342.46, 99.42), (342.46, 106.33), (5.64, 123.80)} <= points
    assert (342.0, 0.1) not in points
    assert "SYNTHETIC" in figure.get_suptitle()
    assert "reduced setting" in figure.get_suptitle()


def test_without_a_network_that_was_measured_and_counted_there_is_no_figure_9():
    assert draw_tradeoff([row("3dmm", 900.0)], [cost("3dmm-m", "told", 5)]) is None
    assert draw_tradeoff([row("cf", 900.0)], [cost("3dmm", "told", 5)]) is None


@pytest.fixture(scope="module")
def slices(subject):
    return slice_frames(subject)


def test_slices_run_through_all_that_was_marked_and_as_a_gif(subject, slices):
    seen = subject.readers.any(axis=0) | (subject.alphas["lb"] > 0.02)
    assert len(slices) == seen.any(axis=(1, 2)).sum()
    assert all(frame.shape[0] % 2 == 0 and frame.shape[1] % 2 == 0 for frame in slices)
    data = gif(slices, 120)
    assert data == gif(slices, 120)
    assert len(data) < 1_500_000
    with Image.open(BytesIO(data)) as picture:
        assert (picture.n_frames, picture.info["duration"], picture.info["loop"]) == (
            len(slices),
            120,
            0,
        )
        assert picture.size == (slices[0].shape[1], slices[0].shape[0])
    with Image.open(BytesIO(still(slices, 2))) as picture:
        assert np.array_equal(np.asarray(picture), slices[2])


def test_a_long_run_of_slices_is_thinned_out(subject, monkeypatch):
    monkeypatch.setattr(videos, "MAX_SLICE_FRAMES", 3)
    assert 2 <= len(slice_frames(subject)) <= 3


def test_the_matte_turns_once(subject, monkeypatch):
    assert TURN_FRAMES == 36
    monkeypatch.setattr(videos, "TURN_FRAMES", 4)
    half = subject.alphas["lb"].copy()
    half[..., 12:] = 0
    frames = turn_frames(replace(subject, alphas={"lb": half}, synthetic=False))
    assert len(frames) == 4
    # The left panel: what lies on the patient's right is on the left of the picture, and after half
    # a turn on the right
    width = int(frames[0].shape[1] * 0.44)
    glow = [frame[30:-30, :width].sum(axis=(0, 2), dtype=float) for frame in frames]
    centres = [(line * np.arange(width)).sum() / line.sum() for line in glow]
    assert centres[0] < width / 2 - 5
    assert centres[2] > width / 2 + 5


def test_mp4_is_written_where_there_is_an_ffmpeg(slices):
    if find_ffmpeg() is None:
        pytest.skip("no ffmpeg here: install one, or imageio-ffmpeg")
    data = mp4(slices, 120)
    assert data is not None
    assert data[4:8] == b"ftyp"
    assert data == mp4(slices, 120)


def test_without_ffmpeg_there_is_no_mp4_and_a_broken_one_is_refused(slices, monkeypatch, tmp_path):
    monkeypatch.setattr(videos, "find_ffmpeg", lambda: None)
    assert mp4(slices, 120) is None
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\ncat > /dev/null\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(videos, "find_ffmpeg", lambda: shutil.which("ffmpeg", path=str(tmp_path)))
    with pytest.raises(InputError, match="Unknown encoder libx264"):
        mp4(slices, 120)
