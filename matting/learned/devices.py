"""Devices that networks are computed on: which there are, their threads, precision and kernels."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from matting.errors import InputError


def set_num_threads() -> None:
    """Set torch's threads to OMP_NUM_THREADS, or to the number of cores.

    The split of a sum among threads changes its last bits, so their number must not depend on what
    ran in this process before.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def pick_device(name: str) -> torch.device:
    """Return a device; "auto" is the GPU if there is one. Raise InputError if it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            "there is no such device",
            got=f"{name}: {str(error).splitlines()[0]}",
            expected="auto, cpu, or a GPU such as cuda or cuda:1",
            remedy="Omit --device to use the GPU if there is one.",
        ) from error
    return device


def list_devices(name: str) -> list[str]:
    """Return the devices on which different networks can be trained at the same time.

    Args:
        name: "auto" for all GPUs, where there are several; anything else is the one device.
    """
    count = torch.cuda.device_count() if name == "auto" else 0
    return [f"cuda:{index}" for index in range(count)] if count > 1 else [name]


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return the precision that "auto" stands for on a device."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "single"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "half"


def training_precision(precision: str, device: torch.device, variant: str) -> str:
    """Return the precision that "auto" stands for in the training of a network on a device.

    As `resolve_precision`, but bfloat16 also on a CPU that multiplies it (AMX or AVX-512), where
    full convolutions take a half to a quarter of the time; ghost networks have CPU kernels instead.
    """
    # Older torch cannot tell
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    multiplies = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    if precision == "auto" and device.type == "cpu" and variant != "3dmm-mg" and multiplies:
        return "bfloat16"
    return resolve_precision(precision, device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return a context in which convolutions compute in a precision."""
    if precision == "single":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bfloat16" else torch.float16)


@contextmanager
def searching_kernels(*, wanted: bool) -> Iterator[None]:
    """Let cuDNN try which of its kernels is fastest for each size; it pays where sizes repeat."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
