"""Drawing one nodule: what is shown, where, in which window, and what is said in the picture."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from matting.geometry.grid import Grid
from matting.geometry.trimap import build_trimap
from matting.parameters import TrimapSettings
from qc.figures.drawing import (
    MARGIN_MM,
    UNMEASURED,
    DrawnNodule,
    crop_upright,
    draw_anatomy,
    draw_mattes,
    png,
)

CENTRE = (11, 20, 24)
RADII_MM = (6.0, 5.0, 4.0, 3.0)
METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")
SPACING_MM = (1.0, 0.5, 0.5)


@pytest.fixture(scope="module")
def subject() -> DrawnNodule:
    """A ball of tissue in lung, off the patch's middle.

    Reader r marks a smaller ball than reader r - 1.
    """
    shape = (24, 48, 48)
    grid = Grid(shape, SPACING_MM, (0.0, 0.0, 0.0))
    places = np.moveaxis(np.indices(shape), 0, -1)
    distance_mm = np.linalg.norm((places - CENTRE) * SPACING_MM, axis=-1)
    readers = np.stack([distance_mm < radius for radius in RADII_MM])
    valid = np.ones(shape, bool)
    # Neither the matte nor the lung is the same on both sides, so that a picture turned round is
    # another picture.
    matte = (np.clip(6.5 - distance_mm, 0, 1) * (0.5 + places[..., 2] / 100)).astype(np.float32)
    trimap = build_trimap(
        readers, valid, spacing_mm=SPACING_MM, parameters=TrimapSettings(dilation_mm=1.0)
    )
    return DrawnNodule(
        grid=grid,
        image_hu=np.where(distance_mm < 6, 40, -850 + 8 * places[..., 0]).astype(np.int16),
        valid=valid,
        readers=readers,
        trimap=trimap.labels,
        alphas={name: matte * np.float32(1 - 0.05 * place) for place, name in enumerate(METHODS)},
        why_missing={},
        picked="lb+",
    )


def titles(figure: Figure) -> list[str]:
    return [panel.get_title() for panel in figure.axes if panel.get_title()]


def panel_called(figure: Figure, title: str) -> Axes:
    return next(panel for panel in figure.axes if panel.get_title().startswith(title))


def words(figure: Figure) -> str:
    inside = [text.get_text() for panel in figure.axes for text in panel.texts]
    return " ".join([*inside, *(text.get_text() for text in figure.texts)])


def contours(panel: Axes) -> list[QuadContourSet]:
    return [drawn for drawn in panel.collections if isinstance(drawn, QuadContourSet)]


@pytest.mark.parametrize("draw", [draw_anatomy, draw_mattes])
def test_the_same_subject_gives_the_same_bytes(subject: DrawnNodule, draw) -> None:
    first, second = png(draw(subject)), png(draw(subject))
    assert first == second
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"tIME" not in first
    assert b"Software" not in first
    assert len(first) < 120_000


@pytest.mark.parametrize(
    ("plane", "across"), [("axial CT, outlines", 1), ("coronal", 1), ("sagittal", 1)]
)
def test_outlines_lie_where_the_readers_marked(
    subject: DrawnNodule, plane: str, across: int
) -> None:
    panel = panel_called(draw_anatomy(subject), plane)
    drawn = contours(panel)
    assert len(drawn) == 4
    middle = (panel.images[0].get_array().shape[across] - 1) / 2
    for outline, radius_mm in zip(drawn, RADII_MM, strict=True):
        x = outline.get_paths()[0].vertices[:, 0]
        assert x.max() - middle == pytest.approx(radius_mm / 0.5 - 0.5, abs=0.51)
        assert middle - x.min() == pytest.approx(radius_mm / 0.5 - 0.5, abs=0.51)


def test_readers_differ_in_colour_and_in_dashes(subject: DrawnNodule) -> None:
    drawn = contours(panel_called(draw_anatomy(subject), "axial CT, outlines"))
    assert len({tuple(outline.get_edgecolor()[0]) for outline in drawn}) == 4
    assert len({str(outline.get_linestyle()) for outline in drawn}) == 4


def test_a_reader_who_marked_nothing_in_the_plane_has_no_outline_there(
    subject: DrawnNodule,
) -> None:
    readers = subject.readers.copy()
    readers[3] = False
    readers[3, 14, 20, 24] = True
    figure = draw_anatomy(replace(subject, readers=readers))
    assert len(contours(panel_called(figure, "axial CT, outlines"))) == 3
    assert len(contours(panel_called(figure, "coronal"))) == 4


def test_the_union_fills_the_picture(subject: DrawnNodule) -> None:
    near = crop_upright(subject)
    shown_mm = np.array(near.grid.shape) * near.grid.spacing_mm
    assert np.all(shown_mm >= 2 * (RADII_MM[0] - 1 + MARGIN_MM))
    assert np.all(shown_mm <= 2 * (RADII_MM[0] + MARGIN_MM) + 2)
    middle = tuple(n // 2 for n in near.grid.shape)
    assert near.readers[(3, *middle)]


def test_the_margin_of_a_large_lesion_grows_with_it(subject: DrawnNodule) -> None:
    shape = (80, 80, 80)
    readers = np.zeros((1, *shape), bool)
    readers[0, 10:71, 10:71, 10:71] = True
    blank = np.zeros(shape, np.float32)
    large = replace(
        subject,
        grid=Grid(shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
        image_hu=blank,
        valid=np.ones(shape, bool),
        readers=readers,
        trimap=blank.astype(np.uint8),
        alphas={},
    )
    assert crop_upright(large).grid.shape == (79, 79, 79)


def test_beyond_the_patch_nothing_counts_as_measured(subject: DrawnNodule) -> None:
    short = replace(
        subject,
        grid=Grid((18, 48, 48), SPACING_MM, (0.0, 0.0, 0.0)),
        image_hu=subject.image_hu[6:],
        valid=subject.valid[6:],
        readers=subject.readers[:, 6:],
        trimap=subject.trimap[6:],
        alphas={name: alpha[6:] for name, alpha in subject.alphas.items()},
    )
    near = crop_upright(short)
    missing = near.grid.shape[0] // 2 - (CENTRE[0] - 6)
    assert missing > 0
    assert not near.valid[:missing].any()
    assert near.valid[missing:].all()
    assert np.isnan(near.alphas["cf"][:missing]).all()


def test_what_was_not_measured_never_looks_like_lung(subject: DrawnNodule) -> None:
    valid = subject.valid.copy()
    valid[:, :, 30:] = False
    shown = panel_called(draw_anatomy(replace(subject, valid=valid)), "axial CT, outlines").images[
        0
    ]
    mask = np.ma.getmaskarray(shown.get_array())
    assert mask[:, -1].all()
    assert not mask[:, mask.shape[1] // 2].any()
    assert shown.get_cmap()(np.ma.masked) == pytest.approx(to_rgba(UNMEASURED))


def test_a_volume_stored_from_head_to_feet_looks_the_same(subject: DrawnNodule) -> None:
    (z, y, x), turned = subject.grid.axes_lps, slice(None, None, -1)
    axes = (tuple(-v for v in z), y, tuple(-v for v in x))
    flip = (turned, slice(None), turned)
    other = replace(
        subject,
        grid=Grid(subject.grid.shape, SPACING_MM, (0.0, 0.0, 0.0), axes),
        image_hu=subject.image_hu[flip],
        valid=subject.valid[flip],
        readers=subject.readers[(slice(None), *flip)],
        trimap=subject.trimap[flip],
        alphas={name: alpha[flip] for name, alpha in subject.alphas.items()},
    )
    assert png(draw_anatomy(other)) == png(draw_anatomy(subject))
    assert png(draw_mattes(other)) == png(draw_mattes(subject))


def test_the_head_is_up_and_the_front_of_the_axial_plane_too(subject: DrawnNodule) -> None:
    image_hu = subject.image_hu.copy()
    image_hu[14:] = 100
    image_hu[:14, 26:] = -1300
    figure = draw_anatomy(replace(subject, image_hu=image_hu))
    coronal = panel_called(figure, "coronal").images[0].get_array()
    assert coronal.filled(-850)[:4].mean() > coronal.filled(-850)[-4:].mean()
    axial = panel_called(figure, "axial CT alone").images[0].get_array()
    assert (axial[-1] == -1300).all()
    assert (axial[0] != -1300).all()


def test_voxels_keep_their_physical_shape(subject: DrawnNodule) -> None:
    figure = draw_anatomy(subject)
    assert panel_called(figure, "axial CT alone").get_aspect() == 1.0
    assert panel_called(figure, "coronal").get_aspect() == 2.0
    assert panel_called(figure, "sagittal").get_aspect() == 2.0


def test_every_matte_has_its_panel_on_one_scale(subject: DrawnNodule) -> None:
    figure = draw_mattes(subject)
    near = crop_upright(subject)
    for name in METHODS:
        shown = panel_called(figure, name).images[0]
        assert shown.get_clim() == (0, 1)
        assert shown.get_cmap().name == "magma"
        np.testing.assert_array_equal(shown.get_array(), near.alphas[name][near.grid.shape[0] // 2])


def test_only_the_picked_one_is_marked(subject: DrawnNodule) -> None:
    marked = [title for title in titles(draw_mattes(subject)) if "picked" in title]
    assert len(marked) == 1
    assert marked[0].startswith("lb+ ")
    assert not [
        title for title in titles(draw_mattes(replace(subject, picked=None))) if "picked" in title
    ]


def test_a_method_without_a_matte_says_why(subject: DrawnNodule) -> None:
    missing = np.full(subject.grid.shape, np.nan, np.float32)
    reason = r"The solver used up its $\nothing$; ask for more."
    gap = replace(subject, alphas={**subject.alphas, "knn": missing}, why_missing={"knn": reason})
    figure = draw_mattes(gap)
    said = " ".join(text.get_text() for text in panel_called(figure, "knn").texts)
    assert "no matte stored" in said
    assert "used up" in said
    assert not panel_called(figure, "knn").images[0].get_array().any()
    assert "no matte stored" not in words(draw_mattes(subject))
    assert png(figure)


def test_the_known_alpha_is_shown_where_there_is_one(subject: DrawnNodule) -> None:
    known = replace(subject, known_alpha=subject.alphas["cf"])
    assert "known alpha" in titles(draw_mattes(known))
    assert "known alpha" not in titles(draw_mattes(subject))
    assert "CT" in titles(draw_mattes(subject))


@pytest.mark.parametrize("draw", [draw_anatomy, draw_mattes])
def test_a_picture_of_simulated_ct_says_so_itself(subject: DrawnNodule, draw) -> None:
    assert "SYNTHETIC" in words(draw(replace(subject, synthetic=True)))
    assert "SYNTHETIC" not in words(draw(subject))


def test_the_trimap_has_three_shades(subject: DrawnNodule) -> None:
    shown = panel_called(draw_anatomy(subject), "axial trimap").images[0].get_array()
    assert set(np.unique(shown)) == {0, 1, 2}
    middle = shown.shape[0] // 2
    assert shown[middle, middle] == 2
    assert shown[0, 0] == 0
