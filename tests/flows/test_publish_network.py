"""A trained network becomes a folder that other programs and machines can use."""

import builtins
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from typer.testing import CliRunner

import flows.publish_network
import tasks.network_publishing.files
from flows.cli.main import app
from flows.publish_network import Publication, publish_network
from matting.errors import InputError
from storage.records import FileList, read_record
from storage.results.checkpoints import read_checkpoint
from storage.results.csv_rows import from_csv
from storage.results.prediction_scores import MeanScore
from storage.results.scores import METRIC_NAMES
from storage.store import open_folder
from tasks.learning.onnx_network import TOLERANCE
from tasks.learning.predict import Place, predict_file
from tasks.learning.train import learn
from tests.flows.training import copy_of, training_job

pytestmark = pytest.mark.slow  # a network is trained and exported

SHAPE = (20, 40, 44)
EVERYTHING = Place((0, 0, 0), (19, 39, 43))


@pytest.fixture(scope="module")
def trained(learnable, tmp_path_factory):
    """A job, whose training has ended in a store of its own."""
    store = copy_of(learnable, tmp_path_factory.mktemp("trained"))
    job = training_job(store.url)
    learn(job)
    return job


@pytest.fixture(scope="module")
def network(trained):
    """The published folder, with everything in it; its ONNX file takes most of the time."""
    lines = []
    digest = learn(trained).digest
    place = publish_network(
        trained.release, digest, Publication("small-1", "CC-BY-4.0"), device="cpu", say=lines.append
    )
    assert lines == []
    return open_folder(place)


@pytest.fixture
def copied(network, tmp_path):
    """A copy of the folder, somewhere else."""
    return Path(shutil.copytree(network.url, tmp_path / "small-1"))


def write_ct(path: Path, spacing_mm: float) -> Path:
    """A CT with axes turned."""
    rng = np.random.default_rng(3)
    image = sitk.GetImageFromArray(rng.integers(-1000, 400, SHAPE).astype(np.int16))
    image.SetSpacing([spacing_mm] * 3)
    image.SetOrigin((-30.0, 12.0, 99.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def read_map(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(float)


def test_a_published_folder_holds_what_it_lists_and_is_the_checkpoint(network, trained, copied):
    listed = read_record(network, "files.json", FileList).files
    assert {*network.list_prefix("")} == {*listed, "files.json"}
    assert {"README.md", "model.onnx", "configs/inference.json", "models/model.pt"} <= {*listed}
    made, again = learn(trained), read_checkpoint(str(copied))
    assert again.config == made.config
    assert all(np.array_equal(again.weights[name], made.weights[name]) for name in made.weights)


def test_the_card_states_what_was_measured_and_nothing_else(network, trained):
    card = network.get("README.md").decode()
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["license"], front["pipeline_tag"]) == ("cc-by-4.0", "image-segmentation")
    rows = from_csv(MeanScore, network.get("metrics.csv"), "metrics.csv")
    own = {
        (row.region, row.metric): row
        for row in rows
        if (row.group, row.truth, row.matte) == ("all", "released", "prediction")
    }
    reported = front["model-index"][0]["results"][0]["metrics"]
    assert len(reported) == 3 * len(METRIC_NAMES)
    for metric in reported:
        values = [row.mean for (_, name), row in own.items() if name == metric["type"]]
        assert any(metric["value"] == pytest.approx(value, rel=1e-5) for value in values)
    sad = own["unknown", "sad"]
    assert sad.low < sad.mean < sad.high
    assert f"{sad.mean:,.0f} ({sad.low:,.0f} to {sad.high:,.0f})" in card
    for text in (
        "| train | 5 | 5 |",
        "| test | 2 | 2 |",
        trained.release.manifest_sha256,
        "not a medical device",
        "Question that they answer: density",
        "Simulated scans: 0 of 8",
        "Weights: [CC-BY-4.0]",
        "keep their license, which is not stated here",
    ):
        assert text in card


def test_onnxruntime_computes_the_same_maps(copied, tmp_path):
    ct = write_ct(tmp_path / "images" / "ct.nii.gz", 0.6)
    for name, place in (("torch", copied), ("onnx", copied / "model.onnx")):
        predict_file(str(place), ct, EVERYTHING, tmp_path / name, "cpu")
    ours, theirs = (read_map(tmp_path / name / "alpha.nii.gz") for name in ("torch", "onnx"))
    assert ours.std() > 0.01
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)
    for name in ("overlap", "union"):
        maps = [read_map(tmp_path / way / f"{name}.nii.gz") for way in ("torch", "onnx")]
        assert np.mean(maps[0] != maps[1]) < 1e-3
    about = [(tmp_path / way / "about.json").read_bytes() for way in ("torch", "onnx")]
    assert about[0] == about[1]


def test_the_example_of_the_card_runs(network, copied, monkeypatch):
    monkeypatch.chdir(copied)
    card = network.get("README.md").decode()
    rng = np.random.default_rng(5)
    image_hu = rng.integers(-1200, 600, (16, 32, 48)).astype(np.float32)
    np.save("nodule.npy", image_hu)
    names: dict[str, np.ndarray] = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)
    image = torch.from_numpy(np.clip((image_hu + 1000) / 1400, 0, 1))[None, None]
    network_of_torch = tasks.network_publishing.files._as_maps(read_checkpoint(str(copied)))
    with torch.inference_mode():
        expected = network_of_torch(image)[0, 0].numpy()
    np.testing.assert_allclose(names["alpha"], expected, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore")  # MONAI's, of what it did not find and of configurations
@pytest.mark.parametrize(
    ("spacing_mm", "most", "mean"), [(0.5, TOLERANCE, TOLERANCE), (0.6, 1, 0.02)]
)
def test_monai_runs_the_bundle(copied, tmp_path, monkeypatch, spacing_mm, most, mean):
    """Voxels of another size are interpolated otherwise than by `halosign predict`."""
    from monai.bundle import ConfigWorkflow

    ct = write_ct(tmp_path / "images" / "ct.nii.gz", spacing_mm)
    predict_file(str(copied), ct, EVERYTHING, tmp_path / "ours", "cpu")
    monkeypatch.chdir(copied)
    workflow = ConfigWorkflow(
        config_file="configs/inference.json",
        workflow_type="inference",
        logging_file=False,
        dataset_dir=str(ct.parent),
        output_dir=str(tmp_path / "theirs"),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    theirs = sitk.ReadImage(str(tmp_path / "theirs" / "ct" / "ct_alpha.nii.gz"))
    ours = sitk.ReadImage(str(tmp_path / "ours" / "alpha.nii.gz"))
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(theirs, geometry)(), getattr(ours, geometry)(), atol=1e-4)
    difference = sitk.GetArrayFromImage(theirs) - sitk.GetArrayFromImage(ours)
    assert np.abs(difference).max() <= most
    assert np.abs(difference).mean() <= mean


def test_the_state_of_the_bundle_is_read_without_executing_anything(copied):
    state = torch.load(copied / "models" / "model.pt", weights_only=True)
    weights = read_checkpoint(str(copied)).weights
    assert {f"network.{name}" for name in weights} == {*state}
    assert all(np.array_equal(state[f"network.{n}"].numpy(), v) for n, v in weights.items())


def test_the_same_command_publishes_nothing_again(network, trained, monkeypatch):
    lines = []
    monkeypatch.setattr(flows.publish_network, "measure_held_out", None)  # is not called
    before = {key: network.etag(key) for key in network.list_prefix("")}
    digest = learn(trained).digest
    known = Publication("small-1", "CC-BY-4.0")
    publish_network(trained.release, digest, known, device="cpu", say=lines.append)
    assert lines == ["small-1 is published already, with the same network"]
    assert {key: network.etag(key) for key in network.list_prefix("")} == before


def test_without_the_packages_there_is_no_onnx_file_and_a_line_says_how(trained, monkeypatch):
    lines = []
    found = tasks.learning.onnx_network.find_spec
    monkeypatch.setattr(
        tasks.learning.onnx_network,
        "find_spec",
        lambda name: None if name == "onnxscript" else found(name),
    )
    digest = learn(trained).digest
    place = publish_network(
        trained.release, digest, Publication("plain", ""), device="cpu", say=lines.append
    )
    (line,) = lines
    assert "onnxscript not installed: pip install onnx onnxscript onnxruntime" in line
    folder = open_folder(place)
    assert not folder.exists("model.onnx")
    card = folder.get("README.md").decode()
    assert "onnx" not in card
    assert "Weights: not stated by the publisher." in card
    assert "license: unknown" in card


def test_an_onnx_file_that_computes_something_else_is_refused(copied):
    model = (copied / "model.onnx").read_bytes()
    other = tasks.network_publishing.files._as_maps(read_checkpoint(str(copied)))
    with torch.no_grad():
        other.network.matting.head.bias += 0.01
    with pytest.raises(InputError, match=r"not the same as ONNX: got maps of .* differ by 0\.00"):
        tasks.learning.onnx_network._compare(model, other)


def test_an_onnx_file_without_onnxruntime_is_refused(copied, tmp_path, monkeypatch):
    ct = write_ct(tmp_path / "images" / "ct.nii.gz", 0.6)
    imported = builtins.__import__

    def without(name, *arguments, **more):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return imported(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"not installed.*pip install onnxruntime"):
        predict_file(str(copied / "model.onnx"), ct, EVERYTHING, tmp_path / "out", "cpu")


def test_predict_takes_the_name_of_a_published_network(network, trained, tmp_path):
    ct = write_ct(tmp_path / "images" / "ct.nii.gz", 0.6)
    out = tmp_path / "out"
    arguments = ["predict", "--image", str(ct), "--box", "2,2,2,9,30,30", "--out", str(out)]
    store = ["--store", trained.release.store.url]
    done = CliRunner().invoke(app, [*arguments, "--checkpoint", "small-1", *store])
    assert done.exit_code == 0, done.output
    assert (out / "alpha.nii.gz").exists()
    done = CliRunner().invoke(app, [*arguments, "--checkpoint", "small-9", *store])
    assert isinstance(done.exception, InputError)
    assert "has small-1" in str(done.exception) or "has plain, small-1" in str(done.exception)


def test_the_command_publishes_a_training_that_ended(network, trained, halosign, tmp_path):
    """The training of the fixture has these settings; it is found and not repeated."""
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(
        "training: {crop_zyx: [16, 32, 32], focus: 1.0, batch: 2, at_once: 1, epochs: 2, seed: 8}\n"
    )
    command = ["train", "--release", "0.1.0", "--store", trained.release.store.url]
    done = halosign(*command, "--recipe", recipe, "--publish", "small-1", "--license", "cc-by-4.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith(f"published: {network.url}")
    other = halosign(*command, "--recipe", recipe, "--epochs", 1, "--publish", "small-1")
    assert other.returncode == 2
    assert "the name small-1 is taken" in other.stderr
    assert halosign(*command, "--license", "MIT").returncode == 2
