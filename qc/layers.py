"""A nodule as layers of napari: CT, readers' masks, trimap and every matte."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from matting.errors import InputError
from qc.figures.drawing import WINDOW_HU
from storage.cases.case import Case


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; its values are (z, y, x)."""

    name: str
    values: NDArray[Any]
    is_labels: bool = False
    visible: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    """Further arguments of napari, by name."""


def nodule_layers(case: Case, pick: str | None) -> Iterator[Layer]:
    """Yield the layers from the lowest to the topmost: CT, trimap, readers and mattes.

    Args:
        case: Of the nodule.
        pick: The method whose matte is visible; the first that there is where None.
    """
    gray = (("colormap", "gray"), ("contrast_limits", WINDOW_HU))
    yield Layer("CT, HU", case.array("image"), visible=True, settings=gray)
    yield Layer("trimap", case.array("labels/trimap/0"), is_labels=True)
    for number, mask in enumerate(case.array("labels/readers/0"), start=1):
        yield Layer(f"reader {number}", mask, is_labels=True)
    heat = (
        ("colormap", _see_through("magma")),
        ("contrast_limits", (0.0, 1.0)),
        ("blending", "translucent_no_depth"),
    )
    mattes = {name: case.alpha(name) for name in case.methods}
    if "known_alpha" in case.group:
        yield Layer("known alpha", case.array("known_alpha"), settings=heat)
    there = {name: alpha for name, alpha in mattes.items() if not np.isnan(alpha).any()}
    shown = pick if pick in there else next(iter(there), None)
    for name, alpha in there.items():
        mark = ", chosen" if name == pick else ""
        yield Layer(f"alpha {name}{mark}", alpha, visible=name == shown, settings=heat)


def _see_through(name: str) -> NDArray[Any]:
    """Return the RGBA colours of a colour map: nothing hides the CT at 0, little of it shows at 1.

    Added to a bright CT, a matte would be white all over.
    """
    colours: NDArray[Any] = colormaps[name](np.linspace(0, 1, 256))
    colours[:, 3] = 0.8 * np.sqrt(np.linspace(0, 1, 256))
    return colours


def show_in_napari(case: Case, pick: str | None) -> None:
    """Open a nodule in napari; returns when its window is closed.

    Args:
        case: Of the nodule.
        pick: The method whose matte is visible.

    Raises:
        InputError: napari is not installed.
    """
    try:
        import napari
    except ImportError as error:
        raise InputError(
            "napari is not installed",
            got=error,
            expected="napari and a library for its windows beside Halosign",
            remedy='Install it with `pip install "napari[all]"`, or write NIfTI files with --to.',
        ) from error
    viewer = napari.Viewer(title=f"{case.nodule_id}{' (synthetic CT)' * case.facts.synthetic}")
    add_layers(viewer, case, pick)
    napari.run()


def add_layers(viewer: Any, case: Case, pick: str | None) -> None:
    """Add a nodule's layers to a viewer of napari, in mm.

    Args:
        viewer: A `napari.Viewer`, or its model.
        case: Of the nodule.
        pick: The method whose matte is visible.
    """
    for layer in nodule_layers(case, pick):
        add = viewer.add_labels if layer.is_labels else viewer.add_image
        add(
            layer.values,
            name=layer.name,
            scale=case.grid.spacing_mm,
            visible=layer.visible,
            **dict(layer.settings),
        )
    viewer.dims.axis_labels = ("z", "y", "x")
    # The middle slice of the nodule
    viewer.dims.set_point(0, case.grid.shape[0] // 2 * case.grid.spacing_mm[0])
