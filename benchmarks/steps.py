"""CPU seconds of one training step: layers, layouts, precisions and torch.compile.

    python -m benchmarks.steps

A step is forward, losses and backward of one crop, on one thread; what torch cannot do is said in
its row. The first step includes compiling.
"""

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.measure import command_line, cpu_seconds, one_thread, save, table
from matting.learned import build_network, layers
from matting.learned.devices import autocast
from matting.learned.losses import LossTargets, losses

CROP = (32, 64, 64)
FIRST, LAST = torch.contiguous_format, torch.channels_last_3d
WAYS = (
    ("3dmm-mg", "torch, channels first", False, FIRST, "single", False),
    ("3dmm-mg", "torch, channels last", False, LAST, "single", False),
    ("3dmm-mg", "ours", True, FIRST, "single", False),
    ("3dmm-mg", "torch, bfloat16, channels first", False, FIRST, "bfloat16", False),
    ("3dmm-mg", "torch, bfloat16, channels last", False, LAST, "bfloat16", False),
    ("3dmm-mg", "torch.compile, channels last", False, LAST, "single", True),
    ("3dmm-mg", "torch, half, channels last", False, LAST, "half", False),
    *(
        (variant, f"{precision}, channels {order}", True, layout, precision, False)
        for variant in ("3dmm", "3dmm-m")
        for precision in ("single", "bfloat16")
        for order, layout in (("first", FIRST), ("last", LAST))
    ),
)


def main() -> None:
    command_line(__doc__).parse_args()
    one_thread()
    torch.set_num_threads(1)
    ours = layers._use_cpu_kernels
    rows = []
    for variant, name, own, layout, precision, compiled in WAYS:
        with patch.object(layers, "_use_cpu_kernels", ours if own else lambda _: False):
            step = prepared(variant, layout, precision, compiled)
            rows.append({"variant": variant, "way": name, **measured(step)})
        print(rows[-1], flush=True)
    save("steps", {"crop_zyx": CROP, "torch": torch.__version__, "ways": rows})
    print(
        table(
            ("network", "way", "first s", "step s"),
            [(row["variant"], row["way"], row["first_s"], row["step_s"]) for row in rows],
        )
    )


def measured(step: Callable[[], None]) -> dict[str, Any]:
    """Return the seconds of the first step and of a later one, or why torch cannot do it."""
    start = time.process_time()
    try:
        step()
        first_s = time.process_time() - start
        step_s, _ = cpu_seconds(step, budget_s=60.0)
    except RuntimeError as error:
        return {"first_s": None, "step_s": None, "failed": str(error).splitlines()[0]}
    return {"first_s": first_s, "step_s": step_s, "failed": None}


def prepared(
    variant: str, layout: torch.memory_format, precision: str, compiled: bool
) -> Callable[[], None]:
    """Return a step of a new network on a fixed crop."""
    torch.manual_seed(0)
    network = build_network(variant).to(memory_format=layout)  # type: ignore[call-overload]
    image, alpha = torch.rand(2, 1, 1, *CROP)
    image = image.to(memory_format=layout)
    targets = LossTargets(alpha, alpha > 0.9, alpha > 0.5, alpha > -1)
    forward = torch.compile(network) if compiled else network

    def step() -> None:
        network.zero_grad()
        with autocast(torch.device("cpu"), precision):
            output = forward(image)
        losses(output, targets).total.backward()  # type: ignore[no-untyped-call]

    return step


if __name__ == "__main__":
    main()
