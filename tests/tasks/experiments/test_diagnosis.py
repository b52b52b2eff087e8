"""Benign or malignant from a release: ratings, inputs, runs that are not repeated."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import tasks.experiments.diagnosis
from flows.curate import curate_nodule
from matting.errors import InputError
from matting.parameters import DiagnosisSettings
from storage.recipe import Recipe
from storage.records import LidcFacts, TableFacts
from storage.releases.reader import ReleaseReader
from storage.releases.release import open_release, publish_release
from storage.results.diagnoses import (
    diagnosis_prefix,
    find_rated_nodules,
    read_cubes,
    reader_ratings,
)
from storage.sources.registry import SourceSpec
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.experiments.diagnosis import (
    INPUTS,
    METHODS,
    diagnose,
    diagnosis_id_of,
    nodule_inputs,
    prepare,
)
from tasks.publish import draft_release
from tests.phantoms import ball_patch, write_table

RATINGS = {"n1": "5 4 4 4", "n2": "1 2 1 2", "n3": "4 4 3 4", "n4": "2 2 1 3", "n5": "3 3 3 3"}
SETTINGS = DiagnosisSettings(
    backbones=("resnet34",), seeds=(1, 2), folds=2, side_voxels=16, spacing_mm=1.0, epochs=1
)


def release(store, folder, ratings):
    """Curate and publish a phantom a rating."""
    folder.mkdir()
    table = write_table(folder, {name: ball_patch(seed=n) for n, name in enumerate(RATINGS)})
    lines = list(csv.reader(table.read_text().splitlines()))
    if ratings is not None:
        lines = [[*lines[0], "malignancy"], *([*line, ratings[line[0]]] for line in lines[1:])]
    table.write_text("\n".join(",".join(line) for line in lines) + "\n")
    keep = [] if ratings is None else ["malignancy"]
    recipe = Recipe.model_validate({"crop": {"in_plane_voxels": 24}, "source": {"keep": keep}})
    job = CurationJob(SourceSpec("files", str(table)), store.url, recipe)
    for nodule in take_inventory(job, None).nodules:
        curate_nodule(nodule, job)
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", recipe), publisher="test")
    return open_release(store.url, "0.1.0")


@pytest.fixture
def released(store, tmp_path):
    return release(store, tmp_path / "scans", RATINGS)


@pytest.fixture
def trainings(monkeypatch):
    """Stand in for the networks: what a nodule holds is its score.

    Notes who learned from how many.
    """
    trained = []

    def train(volumes, malignant, backbone, settings, seed, device):
        trained.append((len(malignant), seed))
        return seed

    monkeypatch.setattr(tasks.experiments.diagnosis, "train_classifier", train)
    monkeypatch.setattr(
        tasks.experiments.diagnosis,
        "classify",
        lambda _, volumes, __: volumes.sum(axis=(1, 2, 3), dtype=float),
    )
    return trained


def lidc(*annotations):
    return LidcFacts(
        database="0.2.3",
        series_instance_uid="1",
        study_instance_uid="2",
        sop_instance_uids=(),
        slice_positions_mm=(),
        slice_thickness_mm=None,
        annotations=annotations,
    )


@pytest.mark.parametrize(
    ("source", "ratings"),
    [
        (TableFacts({"malignancy": "5 5 5 4"}), (5, 5, 5, 4)),
        (TableFacts({"malignancy": "2,3"}), (2, 3)),
        (TableFacts({}), ()),
        (lidc({"malignancy": 1}, {"malignancy": 4}), (1, 4)),
    ],
)
def test_ratings_of_both_sources_are_found(source, ratings):
    annotations = source.annotations if isinstance(source, LidcFacts) else ()
    facts = SimpleNamespace(source=source, ratings=annotations)
    assert reader_ratings(facts, "malignancy") == ratings


@pytest.mark.parametrize("cell", ["high", "0 2 3", "6"])
def test_ratings_that_are_none_are_refused(cell):
    facts = SimpleNamespace(source=TableFacts({"malignancy": cell}), ratings=())
    with pytest.raises(InputError, match="invalid malignancy"):
        reader_ratings(facts, "malignancy")


def test_every_input_on_the_same_nodules_and_no_run_twice(released, store, trainings):
    rows = diagnose(released, SETTINGS)
    assert len(trainings) == len(INPUTS) * 2 * 2
    assert {learned for learned, _ in trainings} == {2}
    assert [row.input for row in rows if row.seed == 1] == list(INPUTS)
    assert {(row.nodules, row.malignant) for row in rows} == {(4, 2)}
    assert [(row.backbone, row.input) for row in rows if row.backbone == "none"] == [
        ("none", "Volume")
    ]
    nodules = find_rated_nodules(
        store, diagnosis_prefix("0.1.0", diagnosis_id_of(released, SETTINGS))
    )
    assert [(n.nodule, n.malignant) for n in nodules] == [
        ("n1", True),
        ("n2", False),
        ("n3", True),
        ("n4", False),
    ]
    before = len(trainings)
    assert diagnose(released, SETTINGS) == rows
    assert len(trainings) == before
    diagnose(released, replace(SETTINGS, seeds=(1, 2, 7)))
    assert {seed for _, seed in trainings[before:]} == {7}


def test_a_run_that_was_killed_continues_where_it_was(released, store, trainings):
    whole = diagnose(released, SETTINGS)
    prefix = diagnosis_prefix("0.1.0", diagnosis_id_of(released, SETTINGS))
    # What a kill leaves: no mark of the inputs, some runs not there
    lost = [
        key
        for key in store.list_prefix(f"{prefix}/resnet34")
        if key.endswith(("image-2.csv", "gt-1.csv"))
    ]
    store.delete([*lost, f"{prefix}/inputs.json"])
    before, told = len(trainings), []
    assert diagnose(released, SETTINGS, after=told.append) == whole
    assert len(lost) == 2
    assert len(trainings) - before == 2 * 2
    assert told[-1].done == told[-1].of == len(INPUTS) * 2


def test_cubes_hold_what_their_names_say(released, store, trainings):
    reader = ReleaseReader(released)
    inputs = nodule_inputs(reader, "n1", SETTINGS)
    assert tuple(inputs) == INPUTS
    readers = reader.read("n1", "readers") > 0
    spacing = np.prod(reader.grid("n1").spacing_mm)
    for name, mask in (
        ("Mean", readers.mean(0)),
        ("Overlap", readers.all(0)),
        ("Union", readers.any(0)),
    ):
        assert inputs[name].sum() == pytest.approx(mask.sum() * spacing, rel=0.03)
        middle = np.average(
            np.indices(inputs[name].shape).reshape(3, -1), axis=1, weights=inputs[name].ravel()
        )
        assert middle == pytest.approx([7.5] * 3, abs=0.35)
    assert any(np.array_equal(inputs["GT"], inputs[method.upper()]) for method in METHODS)
    assert inputs["Overlap"].sum() <= inputs["Rand"].sum() <= inputs["Union"].sum()
    assert np.array_equal(inputs["Rand"], nodule_inputs(reader, "n1", SETTINGS)["Rand"])
    diagnose(released, SETTINGS)
    stored = read_cubes(
        store, diagnosis_prefix("0.1.0", diagnosis_id_of(released, SETTINGS)), "CF+"
    )
    assert np.array_equal(stored[0], inputs["CF+"].astype(np.float16))


def test_with_the_raters_apart_two_readers_outline_and_the_other_two_rate(
    store, tmp_path, monkeypatch
):
    ratings = {**RATINGS, "n1": "1 2 5 4", "n3": "5 5 2 1", "n4": "2 2 1", "n5": "3 3 4 5"}
    published = release(store, tmp_path / "scans", ratings)
    reader = ReleaseReader(published)
    rate_only = {}
    read = ReleaseReader.read

    def changed(reader, nodule_id, name, *args, **kwargs):
        """Move what the raters marked."""
        values = read(reader, nodule_id, name, *args, **kwargs)
        return np.concatenate([values[:2], values[2:] * 0]) if name in rate_only else values

    monkeypatch.setattr(ReleaseReader, "read", changed)
    apart = nodule_inputs(reader, "n1", SETTINGS, raters_apart=True)
    rate_only["readers"] = True
    again = nodule_inputs(reader, "n1", SETTINGS, raters_apart=True)
    assert all(np.array_equal(apart[name], again[name]) for name in INPUTS)
    rate_only.clear()
    together = nodule_inputs(reader, "n1", SETTINGS)
    assert not any(np.array_equal(apart[name], together[name]) for name in ("CF", "CF+", "Mean"))
    _, nodules = prepare(published, SETTINGS, lambda _: None, raters_apart=True)
    # of which readers n4's three ratings are is not known
    assert {n.nodule: (n.rating, n.malignant) for n in nodules} == {
        "n1": (4.5, True),
        "n2": (1.5, False),
        "n3": (1.5, False),
        "n5": (4.5, True),
    }
    assert (
        find_rated_nodules(store, diagnosis_prefix("0.1.0", diagnosis_id_of(published, SETTINGS)))
        is None
    )


@pytest.mark.parametrize(
    ("ratings", "what"),
    [
        (None, "no nodule with ratings"),
        (dict.fromkeys(RATINGS, "5 5 5 5"), "5 malignant and 0 benign"),
    ],
)
def test_a_release_that_cannot_be_diagnosed_is_refused(store, tmp_path, ratings, what):
    published = release(store, tmp_path / "scans", ratings)
    with pytest.raises(InputError, match=what):
        diagnose(published, SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbones": ()},
        {"backbones": ("resnet18",)},
        {"seeds": (1, 1)},
        {"folds": 1},
        {"side_voxels": 16},
        {"precision": "half"},
        {"rate": 0},
    ],
)
def test_settings_that_cannot_be_run_are_refused(wrong):
    with pytest.raises(InputError, match="diagnosis"):
        DiagnosisSettings(**wrong)
