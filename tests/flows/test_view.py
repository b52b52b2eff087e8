"""One nodule in another viewer: layers of napari, and NIfTI files."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from flows.view import view
from matting.errors import InputError
from qc.layers import add_layers
from storage.cases.case import read_case
from storage.cases.outcomes import find_outcome
from storage.records import Verdict
from storage.reviews.verdicts import record_verdict
from tests.reviewable import METHODS, add_nodule

NODULE = "P-1-a1"


class Viewer:
    """What is used of napari's viewer."""

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.layers: dict[str, SimpleNamespace] = {}
        self.dims = SimpleNamespace(set_point=lambda *_: None)

    def add_image(
        self, data: Any, *, name: str, scale: Any, visible: bool, **settings: Any
    ) -> None:
        self.layers[name] = SimpleNamespace(
            kind="image", data=data, scale=scale, visible=visible, **settings
        )

    def add_labels(self, data: Any, *, name: str, scale: Any, visible: bool) -> None:
        assert data.dtype.kind in "ui"
        self.layers[name] = SimpleNamespace(kind="labels", data=data, scale=scale, visible=visible)


@pytest.fixture
def case(store):
    digest = add_nodule(store, NODULE, missing=("if",))
    record_verdict(store, Verdict(NODULE, digest, "choose", "knn+", "ann", automatic=False))
    return read_case(store, NODULE, find_outcome(store, NODULE).digest)


@pytest.fixture
def opened(monkeypatch):
    viewers: list[Viewer] = []
    napari = ModuleType("napari")
    napari.Viewer = lambda title: viewers.append(Viewer(title)) or viewers[-1]  # type: ignore[attr-defined]
    napari.run = lambda: viewers[-1].layers["CT, HU"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari", napari)
    return viewers


def test_napari_gets_every_layer_on_one_grid_and_shows_the_chosen_matte(store, case, opened):
    view(store.url, NODULE)
    (viewer,) = opened
    assert viewer.title == f"{NODULE} (synthetic CT)"
    mattes = [f"alpha {name}{', chosen' * (name == 'knn+')}" for name in METHODS if name != "if"]
    readers = [f"reader {n}" for n in range(1, 5)]
    assert list(viewer.layers) == ["CT, HU", "trimap", *readers, "known alpha", *mattes]
    shown = [name for name, layer in viewer.layers.items() if layer.visible]
    assert shown == ["CT, HU", "alpha knn+, chosen"]
    for layer in viewer.layers.values():
        assert layer.data.shape == case.grid.shape
        assert layer.scale == case.grid.spacing_mm
    chosen = viewer.layers["alpha knn+, chosen"]
    assert (chosen.data == case.alpha("knn+")).all()
    opacity = chosen.colormap[:, 3]
    assert opacity[0] == 0  # the CT shows where there is no lesion
    assert (np.diff(opacity) > 0).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of napari's own
def test_the_model_of_napari_itself_takes_every_layer(case):
    components = pytest.importorskip("napari.components", reason="napari is not installed")
    viewer = components.ViewerModel()
    add_layers(viewer, case, "knn+")
    shown = [layer.name for layer in viewer.layers if layer.visible]
    assert shown == ["CT, HU", "alpha knn+, chosen"]
    assert viewer.dims.axis_labels == ("z", "y", "x")
    assert viewer.dims.current_step[0] == case.grid.shape[0] // 2
    assert (viewer.layers["alpha knn+, chosen"].data == case.alpha("knn+")).all()
    assert {tuple(layer.scale) for layer in viewer.layers} == {case.grid.spacing_mm}


def test_without_napari_it_says_how_to_install_it(store, case, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(InputError, match=r'napari is not installed.*pip install "napari\[all\]"'):
        view(store.url, NODULE)


def test_the_files_hold_every_volume_in_its_place(store, case, tmp_path):
    assert view(store.url, NODULE, tmp_path / "out") == 2 + 4 + 7 + 1
    names = {path.name.removesuffix(".nii.gz") for path in (tmp_path / "out").iterdir()}
    assert {"image", "trimap", "reader-4", "alpha-cf", "alpha-knn+-chosen", "known_alpha"} < names
    chosen = nib.load(tmp_path / "out" / "alpha-knn+-chosen.nii.gz")
    assert (np.asarray(chosen.dataobj).transpose() == case.alpha("knn+")).all()
    ras = nib.affines.apply_affine(chosen.affine, [0, 0, 0])
    assert np.abs(ras * [-1, -1, 1] - case.grid.origin_lps_mm).max() < 1e-4
    assert chosen.header["descrip"].item().startswith(b"synthetic data")
    with pytest.raises(InputError, match="contains something already"):
        view(store.url, NODULE, tmp_path / "out")


def test_a_nodule_without_a_case_is_refused_with_the_nearest(store, case, tmp_path):
    with pytest.raises(InputError, match=f"no such nodule: got P-1-a2, .*Did you mean {NODULE}"):
        view(store.url, "P-1-a2", tmp_path / "out")
