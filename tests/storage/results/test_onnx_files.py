"""What an ONNX file says of itself, read without any library of ONNX."""

import random

import pytest

from matting.errors import InputError
from storage.errors import CorruptionError
from storage.results.checkpoints import read_checkpoint
from storage.results.onnx_files import read_onnx_config, seal_onnx
from tests.cases import checkpoint_config
from tests.furnished import damage

CONFIG = checkpoint_config(digest="d" * 64, weights_sha256="a" * 64, spacing_mm=0.75)
# A message with a number, 8 bytes, 4 bytes, and a text of 200 bytes
MODEL = b"\x08\xac\x02" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x22\xc8\x01" + b"x" * 200


@pytest.mark.parametrize("model", [b"", MODEL])
def test_the_configuration_comes_back(model, tmp_path):
    sealed = seal_onnx(model, CONFIG)
    assert sealed.startswith(model)
    assert read_onnx_config(sealed, "model.onnx") == CONFIG
    (tmp_path / "model.onnx").write_bytes(sealed)
    checkpoint = read_checkpoint(str(tmp_path / "model.onnx"))
    assert (checkpoint.config, checkpoint.onnx, checkpoint.weights) == (CONFIG, sealed, {})


def test_it_is_written_as_the_format_has_it():
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(seal_onnx(b"", CONFIG))
    assert [entry.key for entry in model.metadata_props] == ["halosign_config", "halosign_sha256"]
    assert '"spacing_mm":0.75' in model.metadata_props[0].value


def test_every_damage_is_found():
    sealed = seal_onnx(MODEL, CONFIG)
    dice = random.Random(1)
    for _ in range(300):
        spoiled = damage(sealed, dice)
        with pytest.raises(CorruptionError, match=r"(?s)model\.onnx.*Fetch the network again"):
            read_onnx_config(spoiled, "model.onnx")


@pytest.mark.parametrize("data", [b"", MODEL, b"\x80" * 20, b"\x07", b"no message"])
def test_another_file_is_none_of_a_published_network(data):
    with pytest.raises(CorruptionError, match="not an ONNX file of a published network"):
        read_onnx_config(data, "model.onnx")


@pytest.mark.parametrize("place", ["none/model.onnx", "model.onnx"])
def test_a_file_that_is_not_there_is_refused(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"there is no checkpoint here: got .*model\.onnx"):
        read_checkpoint(place)
