import pytest
import torch

from matting.errors import InputError
from matting.learned.devices import (
    list_devices,
    pick_device,
    resolve_precision,
    training_precision,
)


@pytest.mark.parametrize(
    ("asked", "got"), [("auto", "single"), ("bfloat16", "bfloat16"), ("half", "half")]
)
def test_precision_on_a_cpu(asked: str, got: str) -> None:
    assert resolve_precision(asked, torch.device("cpu")) == got


@pytest.mark.parametrize(
    ("asked", "variant", "has", "got"),
    [
        ("auto", "3dmm", {"amx_bf16"}, "bfloat16"),
        ("auto", "3dmm-m", {"amx_bf16"}, "bfloat16"),
        ("auto", "3dmm", {"avx512_bf16"}, "bfloat16"),
        ("auto", "3dmm", {"avx512_f"}, "single"),
        ("auto", "3dmm-mg", {"amx_bf16", "avx512_bf16"}, "single"),
        ("single", "3dmm", {"amx_bf16"}, "single"),
    ],
)
def test_precision_of_a_training_on_a_cpu(
    asked: str, variant: str, has: set[str], got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(has, True))
    assert training_precision(asked, torch.device("cpu"), variant) == got


@pytest.mark.parametrize(
    ("asked", "gpus", "devices"),
    [
        ("auto", 0, ["auto"]),
        ("auto", 1, ["auto"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 2, ["cuda:1"]),
        ("cpu", 2, ["cpu"]),
    ],
)
def test_networks_are_trained_side_by_side_on_all_gpus_if_no_device_is_asked_for(
    asked: str, gpus: int, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert list_devices(asked) == devices


def test_a_device_that_is_not_there_is_refused() -> None:
    assert pick_device("cpu").type == "cpu"
    for name in ("cuda:99", "abacus"):
        with pytest.raises(InputError, match=f"no such device: got {name}"):
            pick_device(name)
