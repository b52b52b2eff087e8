"""Training: a loop that is a loop. It knows tensors and nothing of disks, releases or where its batches come from.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, section 6.2.1: Adam with weight decay, a linear warm-up over the
        first epoch, then half a cosine; from scratch.

A training can be stopped after any step: `Trainer.state` holds all there is to know, and a trainer that is given it
back goes on to the same weights, bit by bit on a CPU with the same number of threads.
"""

import math
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from matting.errors import InputError
from matting.learned.batches import Batch, draw_order
from matting.learned.losses import Losses, losses
from matting.learned.network import MattingNetwork, build_network
from matting.parameters import DiagnosisSettings, TrainingSettings

Loader = Callable[[int, list[list[int]]], Iterable[Batch]]
"""Gives, for an epoch and lists of nodules, one batch a list."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The mean losses over one epoch's training crops."""

    epoch: int
    """Counted from 1."""
    rate: float
    """Learning rate of its last step."""
    total: float
    alpha: float
    gradient: float
    overlap: float
    union: float


@dataclass(frozen=True, slots=True)
class TrainerState:
    """A training under way, whole."""

    tensors: dict[str, Tensor]
    """Weights as ``network.*``, Adam's moments as ``mean.*`` and ``square.*``; all single precision."""
    facts: dict[str, Any]
    """JSON: steps done, sums of the epoch under way, the epochs before, the scaler of half precision."""


class Trainer:
    """A network, its optimizer and how far they have come."""

    def __init__(
        self,
        variant: str,
        auxiliary: bool,
        training: TrainingSettings,
        nodules: int,
        device: str | torch.device = "cpu",
    ) -> None:
        """Begin a training.

        Args:
            variant: Which network.
            auxiliary: With auxiliary masks or without.
            training: All the numbers.
            nodules: How many there are to learn from.
            device: Where to compute.

        Raises:
            InputError: There is no such variant or nothing to learn from.
        """
        if nodules < 1:
            raise InputError(
                "there is nothing to learn from",
                got="no nodule",
                expected="one or more",
                remedy="Add some.",
            )
        self.training, self.nodules, self.device = training, nodules, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            network = build_network(variant, auxiliary)
        self.layout = network.layout(self.device)
        self.network: MattingNetwork = network.to(self.device).to(memory_format=self.layout)  # type: ignore[call-overload]
        self.rate = training.ghost_rate if variant == "3dmm-mg" else training.rate
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), self.rate, weight_decay=training.weight_decay
        )
        self.precision = resolve_precision(training.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "half")
        self._forward: Callable[[Tensor], Any] = (
            torch.compile(self.network) if training.compiled else self.network
        )
        self.steps = 0
        """Optimizer steps done."""
        self.sums, self.seen = [0.0] * len(Losses._fields), 0
        """Losses summed over the crops seen in the epoch under way."""
        self.history: list[Epoch] = []

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return math.ceil(self.nodules / self.training.batch)

    @property
    def finished(self) -> bool:
        """True after the last epoch."""
        return len(self.history) >= self.training.epochs

    def run(
        self,
        load: Loader,
        *,
        after_step: Callable[["Trainer"], None] = lambda _: None,
        after_epoch: Callable[["Trainer"], None] = lambda _: None,
    ) -> None:
        """Train to the end, from wherever the trainer stands.

        Args:
            load: Gives the batches.
            after_step: Called after every optimizer step.
            after_epoch: Called when an epoch has been added to the history.

        Raises:
            InputError: The loss is no number any more.
        """
        while not self.finished:
            epoch, done = len(self.history), self.steps - len(self.history) * self.steps_per_epoch
            for batch in self._batches(load, epoch, done):
                self._step(*batch)
                after_step(self)
            self._close_epoch()
            after_epoch(self)

    def state(self) -> TrainerState:
        """Give all there is to know; the tensors are the trainer's own and change with the next step."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            moments = self.optimizer.state.get(parameter)
            if moments:
                tensors |= {
                    f"mean.{name}": moments["exp_avg"],
                    f"square.{name}": moments["exp_avg_sq"],
                }
        facts = {
            "steps": self.steps,
            "sums": self.sums,
            "seen": self.seen,
            "history": [asdict(epoch) for epoch in self.history],
            "scaler": self.scaler.state_dict(),
        }
        return TrainerState(tensors, facts)

    def restore(self, state: TrainerState) -> None:
        """Go back to where a state was taken of a training with the same settings."""
        weights = {
            name.removeprefix("network."): t
            for name, t in state.tensors.items()
            if name.startswith("network.")
        }
        self.network.load_state_dict(weights)
        self.steps, self.seen = state.facts["steps"], state.facts["seen"]
        self.sums = list(state.facts["sums"])
        self.history = [Epoch(**epoch) for epoch in state.facts["history"]]
        if state.facts["scaler"]:
            self.scaler.load_state_dict(state.facts["scaler"])
        if not self.steps:
            return
        for name, parameter in self.network.named_parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.steps)),
                "exp_avg": torch.zeros_like(parameter).copy_(state.tensors[f"mean.{name}"]),
                "exp_avg_sq": torch.zeros_like(parameter).copy_(state.tensors[f"square.{name}"]),
            }

    def _batches(self, load: Loader, epoch: int, done: int) -> Iterable[tuple[list[Batch], int]]:
        """Group what is loaded, a few nodules at once, into batches; gives each with its number of nodules."""
        order, size = draw_order(self.nodules, self.training.seed, epoch), self.training.batch
        batches = [order[start : start + size] for start in range(done * size, len(order), size)]
        parts = [_split(batch, self.training.at_once) for batch in batches]
        loaded = iter(load(epoch, [part for batch in parts for part in batch]))
        for batch, pieces in zip(batches, parts, strict=True):
            yield [next(loaded) for _ in pieces], len(batch)

    def _step(self, parts: list[Batch], nodules: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.current_rate
        sums = torch.zeros(len(Losses._fields), dtype=torch.float64)
        for part in parts:
            image, targets = part.to(self.device, self.layout)
            with autocast(self.device, self.precision):
                output = self._forward(image)
            each = losses(
                output, targets, self.training.alpha_weight, self.training.gradient_weight
            )
            self.scaler.scale(each.total * (len(image) / nodules)).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack(each).detach().double().cpu() * len(image)
        if not bool(sums.isfinite().all()):
            raise InputError(
                f"the loss is no number any more after {self.steps} steps",
                got=dict(zip(Losses._fields, sums.tolist(), strict=True)),
                expected="finite losses",
                remedy="Lower training.rate (training.ghost_rate), or compute in single precision.",
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        self.seen += nodules
        self.sums = [before + new for before, new in zip(self.sums, sums.tolist(), strict=True)]

    @property
    def current_rate(self) -> float:
        """The learning rate of the next step."""
        return rate_at(self.steps, self.steps_per_epoch, self.rate, self.training)

    def _close_epoch(self) -> None:
        means = dict(zip(Losses._fields, (total / self.seen for total in self.sums), strict=True))
        rate = rate_at(self.steps - 1, self.steps_per_epoch, self.rate, self.training)
        self.history.append(Epoch(len(self.history) + 1, rate, **means))
        self.sums, self.seen = [0.0] * len(Losses._fields), 0


def rate_at(
    step: int, steps_per_epoch: int, rate: float, training: TrainingSettings | DiagnosisSettings
) -> float:
    """Give the learning rate of a step, counted from 0: up linearly, then down along half a cosine."""
    warm = training.warm_up_epochs * steps_per_epoch
    if step < warm:
        return rate * min(1.0, (step + 1) / warm)
    rest = max(training.epochs * steps_per_epoch - warm, 1.0)
    return rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warm) / rest)))


def set_num_threads() -> None:
    """Compute with OMP_NUM_THREADS threads, or with one a core, whatever ran in this process before.

    How a sum is shared out among threads shows in its last bits, so their number must not depend on anything else.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def pick_device(name: str) -> torch.device:
    """Give a device: "auto" is the GPU where there is one; raises InputError for one that is not there."""
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
            remedy="Leave --device out: the GPU is taken where there is one.",
        ) from error
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """Give what "auto" means on a device."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "single"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "half"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Let convolutions compute in a precision."""
    if precision == "single":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bfloat16" else torch.float16)


def _split(batch: list[int], size: int) -> list[list[int]]:
    return [batch[start : start + size] for start in range(0, len(batch), size)]
