"""The training loop, on tensors alone: it reads no disk and knows no release.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, section 6.2.1: Adam with weight decay, a linear
        warm-up over the first epoch, then half a cosine; from scratch.

A training can be stopped after any step: `Trainer.state` is complete, and a trainer that restores
it continues to the same weights, bit by bit on a CPU with the same number of threads.
"""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from matting.errors import InputError
from matting.learned.batches import Batch, draw_order
from matting.learned.devices import autocast, searching_kernels, training_precision
from matting.learned.losses import Losses, losses
from matting.learned.network import MattingNetwork, build_network
from matting.parameters import Auxiliary, DiagnosisSettings, TrainingSettings

logger = logging.getLogger("halosign")

Loader = Callable[[int, list[list[int]]], Iterable[Batch]]
"""Returns one batch for each list of nodules of an epoch, whose crops have the same size."""
CropSize = Callable[[int, int], object]
"""Returns the size of a crop by epoch and nodule."""


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
    """The complete state of a training."""

    tensors: dict[str, Tensor]
    """Weights as ``network.*``, Adam's moments as ``mean.*`` and ``square.*``; all single
    precision."""
    steps: int
    """Batches done."""
    updates: int
    """Those that changed the weights."""
    crops: int
    """Crops seen in the current epoch."""
    loss_sums: list[float]
    """Sums of the losses over these crops."""
    history: list[Epoch]
    """The epochs done."""
    scaler: dict[str, Any]
    """State of the gradient scaler; empty without one."""


class Trainer:
    """A network, its optimizer and the progress of the training."""

    def __init__(
        self,
        variant: str,
        auxiliary: Auxiliary,
        training: TrainingSettings,
        nodules: int,
        device: str | torch.device = "cpu",
    ) -> None:
        """Initialise a training.

        Args:
            variant: One of `matting.learned.network.VARIANTS`.
            auxiliary: told, untold or none: see `matting.learned.network`.
            training: All settings.
            nodules: Number of nodules to train on, 1 or more.
            device: The device that computes.

        Raises:
            InputError: The variant is unknown or there are no nodules.
        """
        if nodules < 1:
            raise InputError(
                "there is nothing to learn from",
                got="no nodule",
                expected="one or more",
                remedy="Add nodules to the training split.",
            )
        self.training = training
        self.nodules = nodules
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            network = build_network(variant, auxiliary)
        self.network: MattingNetwork = network.to(self.device)
        self.rate = training.ghost_rate if variant == "3dmm-mg" else training.rate
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), self.rate, weight_decay=training.weight_decay
        )
        self.precision = training_precision(training.precision, self.device, variant)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "half")
        self._forward: Callable[[Tensor], Any] = (
            torch.compile(self.network) if training.compiled else self.network
        )
        self.at_once = training.at_once
        """Nodules computed together; halved whenever a GPU's memory does not hold them."""
        self.steps = 0
        """Batches done."""
        self.updates = 0
        """Those that changed the weights: in half precision one whose gradients overflow does not.
        """
        self.crops = 0
        """Crops of the current epoch that were trained on."""
        self.loss_sums = [0.0] * len(Losses._fields)
        """Losses summed over these."""
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
        crop_size: CropSize = lambda _, __: None,
        on_step: Callable[["Trainer"], None] = lambda _: None,
        on_epoch: Callable[["Trainer"], None] = lambda _: None,
    ) -> None:
        """Train from the current state to the end.

        Args:
            load: Loads the batches.
            crop_size: Sizes of crops, where they differ: only equal ones are computed at once.
            on_step: Called after every optimizer step.
            on_epoch: Called after an epoch was added to the history.

        Raises:
            InputError: The loss is not finite any more.
        """
        with searching_kernels(wanted=not self.training.fitted):
            while not self.finished:
                epoch = len(self.history)
                done = self.steps - epoch * self.steps_per_epoch
                for batch in self._batches(load, crop_size, epoch, done):
                    self._step(*batch)
                    on_step(self)
                self._close_epoch()
                on_epoch(self)

    def state(self) -> TrainerState:
        """Return the complete state.

        Its tensors are the trainer's own and change with the next step.
        """
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            moments = self.optimizer.state.get(parameter)
            if moments:
                tensors |= {
                    f"mean.{name}": moments["exp_avg"],
                    f"square.{name}": moments["exp_avg_sq"],
                }
        return TrainerState(
            tensors,
            steps=self.steps,
            updates=self.updates,
            crops=self.crops,
            loss_sums=list(self.loss_sums),
            history=list(self.history),
            scaler=self.scaler.state_dict(),
        )

    def restore(self, state: TrainerState) -> None:
        """Restore a state of a training with the same settings."""
        weights = {
            name.removeprefix("network."): t
            for name, t in state.tensors.items()
            if name.startswith("network.")
        }
        self.network.load_state_dict(weights)
        self.steps = state.steps
        self.updates = state.updates
        self.crops = state.crops
        self.loss_sums = list(state.loss_sums)
        self.history = list(state.history)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        if not self.updates:
            return
        for name, parameter in self.network.named_parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.updates)),
                "exp_avg": torch.zeros_like(parameter).copy_(state.tensors[f"mean.{name}"]),
                "exp_avg_sq": torch.zeros_like(parameter).copy_(state.tensors[f"square.{name}"]),
            }

    def _batches(
        self, load: Loader, crop_size: CropSize, epoch: int, done: int
    ) -> Iterable[tuple[list[Batch], int]]:
        """Yield the parts of each batch, and its number of nodules.

        A part holds as many nodules as are computed at once, with crops of one size.
        """
        order = draw_order(self.nodules, self.training.seed, epoch)
        size = self.training.batch
        batches = [order[start : start + size] for start in range(done * size, len(order), size)]
        parts = [self._split(batch, crop_size, epoch) for batch in batches]
        loaded = iter(load(epoch, [part for batch in parts for part in batch]))
        for batch, parts_of_batch in zip(batches, parts, strict=True):
            yield [next(loaded) for _ in parts_of_batch], len(batch)

    def _split(self, batch: list[int], crop_size: CropSize, epoch: int) -> list[list[int]]:
        size = self.training.at_once
        if size == 1:  # the sums keep the batch's order, and no crop's size is read
            return [[nodule] for nodule in batch]
        by_size: dict[object, list[int]] = {}
        for nodule in batch:
            by_size.setdefault(crop_size(epoch, nodule), []).append(nodule)
        return [
            alike[start : start + size]
            for alike in by_size.values()
            for start in range(0, len(alike), size)
        ]

    def _step(self, parts: list[Batch], nodules: int) -> None:
        """Accumulate the gradients of a batch part by part, then update the weights.

        Where a GPU's memory does not hold a part, the batch begins again in parts of half the size,
        and so do all after it.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.current_rate
        sums = None
        while sums is None:
            pieces = [piece for part in parts for piece in part.split(self.at_once)]
            largest = max(len(piece.image_hu) for piece in pieces)
            # Not begun again in a handler of the error: its traceback holds memory.
            try:
                sums = self._accumulate(pieces, nodules)
            except torch.cuda.OutOfMemoryError:
                if largest == 1:
                    raise
            if sums is None:
                self.optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                self.at_once = largest // 2
                logger.warning(
                    "the GPU's memory does not hold %d nodules at once: continued with %d",
                    *(largest, self.at_once),
                )
        if not bool(sums.isfinite().all()):
            raise InputError(
                f"the loss is not finite any more after {self.steps} steps",
                got=dict(zip(Losses._fields, sums.tolist(), strict=True)),
                expected="finite losses",
                remedy="Lower training.rate (or ghost_rate), or use training.precision: single.",
            )
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        self.updates += self.scaler.get_scale() >= scale  # it falls where a step was left out
        self.crops += nodules
        self.loss_sums = [
            before + new for before, new in zip(self.loss_sums, sums.tolist(), strict=True)
        ]

    def _accumulate(self, parts: list[Batch], nodules: int) -> Tensor:
        """Add up the gradients of a batch's parts, and return the sums of the losses.

        Each part's loss is weighted with its share of the batch's nodules, so that the gradients
        are those of the whole batch.
        """
        # On the device, which is waited for once in a batch and not once in a part
        sums = torch.zeros(len(Losses._fields), dtype=torch.float64, device=self.device)
        for part in parts:
            batch = part.to(self.device)
            image = batch.image
            with autocast(self.device, self.precision):
                output = self._forward(image)
            part_losses = losses(
                output, batch.targets, self.training.alpha_weight, self.training.gradient_weight
            )
            self.scaler.scale(part_losses.total * (len(image) / nodules)).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack(part_losses).detach().double() * len(image)
        return sums.cpu()

    @property
    def current_rate(self) -> float:
        """The learning rate of the next step."""
        return rate_at(self.steps, self.steps_per_epoch, self.rate, self.training)

    def _close_epoch(self) -> None:
        means = (total / self.crops for total in self.loss_sums)
        losses_by_name = dict(zip(Losses._fields, means, strict=True))
        rate = rate_at(self.steps - 1, self.steps_per_epoch, self.rate, self.training)
        self.history.append(Epoch(len(self.history) + 1, rate, **losses_by_name))
        self.loss_sums = [0.0] * len(Losses._fields)
        self.crops = 0


def rate_at(
    step: int, steps_per_epoch: int, rate: float, training: TrainingSettings | DiagnosisSettings
) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine down to 0.

    Args:
        step: Counted from 0 over the whole training.
        steps_per_epoch: 1 or more.
        rate: The largest rate.
        training: Epochs and warm-up.
    """
    warm_up = training.warm_up_epochs * steps_per_epoch
    if step < warm_up:
        return rate * min(1.0, (step + 1) / warm_up)
    rest = max(training.epochs * steps_per_epoch - warm_up, 1.0)
    return rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warm_up) / rest)))
