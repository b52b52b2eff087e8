import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from matting.errors import InputError
from matting.learned import layers
from matting.learned.batches import (
    TENSORS,
    Batch,
    draw_order,
    make_batch,
    pool_crop,
    random_flip_rotate,
)
from matting.learned.losses import LossTargets, losses
from matting.learned.training import Trainer, TrainerState, rate_at
from matting.parameters import Auxiliary, TrainingSettings
from tests.matting.learned.batches import random_batch, soft_balls

SHORT = TrainingSettings(
    crop_zyx=(16, 16, 32), batch=3, at_once=2, epochs=2, warm_up_epochs=1.0, seed=5
)


class FixedNodules:
    """Five fixed nodules; records what was requested."""

    def __init__(self, shape: tuple[int, ...] = (5, 1, 16, 16, 32)) -> None:
        self.image, self.targets = random_batch(shape, seed=1)
        self.requests: list[tuple[int, list[int]]] = []

    def __call__(self, epoch: int, parts: list[list[int]]) -> Iterable[Batch]:
        for part in parts:
            self.requests.append((epoch, part))
            targets = LossTargets(*(tensor[part] for tensor in self.targets))
            yield Batch(self.image[part], targets, (0.0, 1.0))


def trained(training: TrainingSettings, *, auxiliary: Auxiliary = "told") -> Trainer:
    trainer = Trainer("3dmm-mg", auxiliary, training, 5)
    trainer.run(FixedNodules())
    return trainer


def same(one: Trainer, other: Trainer) -> bool:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_epoch_takes_every_nodule_once_in_its_own_order() -> None:
    nodules = FixedNodules()
    Trainer("3dmm-mg", "none", SHORT, 5).run(nodules)
    for epoch in (0, 1):
        taken = [part for e, part in nodules.requests if e == epoch]
        assert [len(part) for part in taken] == [2, 1, 2]
        assert list(chain(*taken)) == draw_order(5, SHORT.seed, epoch)
        assert sorted(chain(*taken)) == list(range(5))
    assert draw_order(5, SHORT.seed, 0) != draw_order(5, SHORT.seed, 1)


@pytest.fixture(scope="module")
def uninterrupted() -> Trainer:
    return trained(SHORT)


class Waits(TorchDispatchMode):
    """Counts how often Python waits for a number of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_the_device_is_waited_for_once_in_a_batch_and_not_once_in_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "_use_cpu_kernels", lambda _: False)  # torch's layers, as on a GPU
    waits = []
    for at_once in (2, 1):
        one_step = replace(SHORT, batch=2, at_once=at_once, epochs=1)
        trainer = Trainer("3dmm-mg", "none", one_step, 2)
        with Waits() as counted:
            trainer.run(FixedNodules((2, 1, 16, 16, 32)))
        waits.append(counted.count)
    assert waits[0] == waits[1] > 0


@pytest.mark.parametrize("holds", [1, 2])
def test_a_gpu_whose_memory_is_full_gets_fewer_nodules_at_once(
    holds: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch begins again in halves; the weights are those of a training of this size."""
    training = replace(SHORT, epochs=1, batch=5, at_once=5)
    seen = []
    trainer = Trainer("3dmm-mg", "told", training, 5)
    forward = trainer._forward

    def full(image: torch.Tensor) -> object:
        output = forward(image)
        seen.append(len(image))
        # The second part of a batch finds the memory full: gradients of the first are there.
        if len(image) > holds and len(seen) % 2 == 0:
            raise torch.cuda.OutOfMemoryError
        return output

    trainer._forward = full
    seen.append(0)
    trainer.run(FixedNodules())
    assert trainer.at_once == holds
    assert "the GPU's memory does not hold 5 nodules at once: continued with 2" in caplog.text
    assert same(trainer, trained(replace(training, at_once=holds)))


def test_a_gpu_without_room_for_one_nodule_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer("3dmm-mg", "told", replace(SHORT, epochs=1), 5)

    def full(_: torch.Tensor) -> object:
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(trainer, "_forward", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        trainer.run(FixedNodules())
    assert trainer.at_once == 1


@pytest.mark.parametrize("stop", [1, 3])
def test_half_precision_resumes_after_steps_that_overflowed(
    stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first gradients overflow: such a step changes no weight and counts in no moment."""

    def half() -> Trainer:
        trainer = Trainer("3dmm-mg", "told", replace(SHORT, precision="half", epochs=3), 5)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**125)
        return trainer

    def pause(trainer: Trainer) -> None:
        if trainer.steps == stop:
            kept.append(deepcopy(trainer.state()))

    kept: list[TrainerState] = []
    whole = half()
    # Half precision of a CPU has convolutions that overflow elsewhere than a GPU's: single here
    whole.precision = "single"
    start = deepcopy(whole.network.state_dict())
    whole.run(FixedNodules(), on_step=pause)
    assert 0 < whole.updates < whole.steps
    if kept[0].updates == 0:
        assert all(torch.equal(kept[0].tensors[f"network.{n}"], start[n]) for n in start)
    resumed = half()
    resumed.precision = "single"
    resumed.restore(kept[0])
    resumed.run(FixedNodules())
    assert same(whole, resumed)
    assert resumed.updates == whole.updates


@pytest.mark.parametrize("stop", [1, 2])
def test_a_training_that_was_stopped_anywhere_ends_in_the_same_weights(
    stop: int, uninterrupted: Trainer
) -> None:
    kept: list[TrainerState] = []

    class Stopped(Exception):
        """Raised in place of a kill."""

    def stop_after(trainer: Trainer) -> None:
        if trainer.steps == stop:
            state = trainer.state()
            tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
            kept.append(replace(state, tensors=tensors))
            raise Stopped

    with pytest.raises(Stopped):
        Trainer("3dmm-mg", "told", SHORT, 5).run(FixedNodules(), on_step=stop_after)
    resumed = Trainer("3dmm-mg", "told", SHORT, 5)
    resumed.restore(kept[0])
    resumed.run(FixedNodules())
    assert same(resumed, uninterrupted)
    assert resumed.history == uninterrupted.history
    assert resumed.steps == 4


def test_the_seed_decides_and_nothing_else(uninterrupted: Trainer) -> None:
    torch.manual_seed(99)
    assert same(uninterrupted, trained(SHORT))
    initial = [Trainer("3dmm-mg", "told", replace(SHORT, seed=seed), 5) for seed in (5, 6)]
    assert not same(*initial)


def test_a_batch_computed_in_parts_is_the_batch() -> None:
    whole, parts = (trained(replace(SHORT, epochs=1, batch=5, at_once=n)) for n in (5, 2))
    assert whole.history[0].total == pytest.approx(parts.history[0].total, rel=1e-5)
    ours, theirs = (
        torch.cat([t.flatten() for t in moments(trainer)]) for trainer in (whole, parts)
    )
    # They differ by rounding only; parts that were weighted wrongly would make them differ by tens
    # of per cent.
    assert float((ours - theirs).norm()) < 0.01 * float(ours.norm())


def test_only_crops_of_one_size_are_computed_at_once() -> None:
    training = replace(SHORT, fitted=True, at_once=2, batch=5, epochs=1)
    nodules = FixedNodules()
    Trainer("3dmm-mg", "none", training, 5).run(nodules, crop_size=lambda _, n: n % 2)
    parts = [part for _, part in nodules.requests]
    assert sorted(map(len, parts)) == [1, 2, 2]
    assert all(len({nodule % 2 for nodule in part}) == 1 for part in parts)
    assert sorted(chain(*parts)) == list(range(5))


def test_nodules_one_by_one_keep_their_order_and_no_size_is_asked_for() -> None:
    def unknown(epoch: int, nodule: int) -> object:
        raise AssertionError((epoch, nodule))

    nodules = FixedNodules()
    training = replace(SHORT, fitted=True, at_once=1, batch=5, epochs=1)
    Trainer("3dmm-mg", "none", training, 5).run(nodules, crop_size=unknown)
    assert [part for _, part in nodules.requests] == [[n] for n in draw_order(5, SHORT.seed, 0)]


def test_crops_of_different_sizes_make_one_step() -> None:
    small, large = (random_batch((1, 1, 16, size, 32), seed=size) for size in (16, 48))

    def load(_: int, parts: list[list[int]]) -> Iterable[Batch]:
        for part in parts:
            yield Batch(*(small, large)[part[0] % 2], (0.0, 1.0))

    training = replace(SHORT, fitted=True, at_once=1, batch=2, epochs=1)
    trainer = Trainer("3dmm-mg", "told", training, 2)
    each = []
    for batch in (small, large):
        network = deepcopy(trainer.network)
        losses(network(batch[0]), batch[1]).total.backward()
        each.append(
            torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        )
    trainer.run(load)
    mean = torch.cat(
        [
            trainer.state().tensors[f"mean.{name}"].flatten()
            for name, _ in trainer.network.named_parameters()
        ]
    )
    # Adam's first moment after one step is a tenth of the gradient, and weight decay adds next to
    # nothing to it.
    expected = 0.1 * (each[0] + each[1]) / 2
    assert float((mean - expected).norm()) < 0.01 * float(expected.norm())


def moments(trainer: Trainer) -> list[torch.Tensor]:
    return [
        tensor
        for name, tensor in sorted(trainer.state().tensors.items())
        if name.startswith("mean.")
    ]


@pytest.mark.slow
def test_two_balls_are_learned() -> None:
    image, targets = soft_balls(2, (16, 16, 32), seed=0)

    def load(_: int, parts: list[list[int]]) -> Iterable[Batch]:
        for part in parts:
            targets_of_part = LossTargets(*(tensor[part] for tensor in targets))
            yield Batch(image[part], targets_of_part, (0.0, 1.0))

    training = TrainingSettings(batch=2, at_once=2, epochs=60, ghost_rate=0.02, seed=3)
    trainer = Trainer("3dmm-mg", "told", training, 2)
    trainer.run(load)
    assert trainer.history[-1].alpha < 0.1 * trainer.history[0].alpha


def test_the_rate_rises_over_the_first_epoch_and_then_falls_to_nothing() -> None:
    training = TrainingSettings(epochs=10, warm_up_epochs=1.0)
    rates = [rate_at(step, 20, 3e-4, training) for step in range(200)]
    assert rates[0] == pytest.approx(3e-4 / 20)
    assert rates[19] == pytest.approx(3e-4)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[110] == pytest.approx(1.5e-4)
    assert 0 < rates[-1] < 1e-7
    assert rate_at(0, 20, 3e-4, TrainingSettings(warm_up_epochs=0.0)) == 3e-4


def test_ghosts_learn_at_their_own_rate() -> None:
    assert (Trainer("3dmm-mg", "told", SHORT, 5).rate, Trainer("3dmm", "told", SHORT, 5).rate) == (
        3e-3,
        3e-4,
    )


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    nodules = FixedNodules()
    nodules.targets.alpha[:] = math.nan
    with pytest.raises(
        InputError, match=r"not finite any more after 0 steps.*Lower training\.rate"
    ):
        Trainer("3dmm-mg", "told", SHORT, 5).run(nodules)


def test_low_precision_learns_too() -> None:
    trainers = []
    for precision in ("bfloat16", "single"):
        trainers.append(
            Trainer("3dmm-mg", "told", replace(SHORT, epochs=1, precision=precision), 2)
        )
        trainers[-1].run(FixedNodules())
    low, single = trainers
    assert low.history[-1].total == pytest.approx(single.history[-1].total, rel=0.05)
    assert not same(low, single)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_compiled_network_learns_the_same() -> None:
    """Within rounding: fused kernels sum in another order."""
    settings = replace(SHORT, epochs=1, batch=1, at_once=1)
    trainers = []
    for compiled in (False, True):
        trainers.append(Trainer("3dmm-mg", "told", replace(settings, compiled=compiled), 3))
        trainers[-1].run(FixedNodules())
    plain, compiled_one = trainers
    assert compiled_one.history[0].total == pytest.approx(plain.history[0].total, rel=1e-3)
    assert list(compiled_one.state().tensors) == list(plain.state().tensors)
    for name, tensor in plain.state().tensors.items():
        if name.startswith("network."):
            torch.testing.assert_close(
                compiled_one.state().tensors[name], tensor, rtol=1e-3, atol=1e-3
            )


@pytest.mark.parametrize("fitted", [False, True])
def test_cudnn_searches_for_kernels_where_all_crops_have_one_size(fitted: bool) -> None:
    searching = []
    trainer = Trainer("3dmm-mg", "none", replace(SHORT, epochs=1, fitted=fitted), 2)
    trainer.run(FixedNodules(), on_step=lambda _: searching.append(torch.backends.cudnn.benchmark))
    assert set(searching) == {not fitted}
    assert not torch.backends.cudnn.benchmark


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to learn from"):
        Trainer("3dmm-mg", "told", SHORT, 0)


def crop(shape: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    place = torch.arange(math.prod(shape), dtype=torch.float32).reshape(1, *shape)
    return {name: place + n for n, name in enumerate(TENSORS)}


def test_symmetries_move_all_tensors_alike_and_lose_no_voxel() -> None:
    before = crop((4, 6, 6))
    seen = set()
    for index in range(120):
        after = random_flip_rotate(before, 1, 0, index)
        assert after["image"].shape == (1, 4, 6, 6)
        assert torch.equal(after["image"].flatten().sort().values, before["image"].flatten())
        for n, name in enumerate(TENSORS):
            assert torch.equal(after[name], after["image"] + n)
        seen.add(tuple(after["image"].flatten().tolist()))
    # flips of three axes, and the two equal axes exchanged
    assert len(seen) == 16
    cube = crop((3, 3, 3))
    assert (
        len(
            {
                tuple(random_flip_rotate(cube, 1, 0, index)["image"].flatten().tolist())
                for index in range(600)
            }
        )
        == 48
    )


def test_symmetries_are_drawn_anew_in_each_epoch_and_are_the_same_when_asked_again() -> None:
    before = crop((4, 4, 4))
    assert all(
        torch.equal(
            random_flip_rotate(before, 1, 2, 3)[name], random_flip_rotate(before, 1, 2, 3)[name]
        )
        for name in TENSORS
    )
    assert any(
        not torch.equal(
            random_flip_rotate(before, 1, 0, n)["image"],
            random_flip_rotate(before, 1, 1, n)["image"],
        )
        for n in range(4)
    )


def test_a_coarse_crop_holds_the_means_of_blocks() -> None:
    generator = torch.Generator().manual_seed(1)
    crop = {name: torch.rand(1, 4, 6, 8, generator=generator) for name in TENSORS}
    for name in ("overlap", "union", "valid"):
        crop[name] = crop[name] > 0.5
    coarse = pool_crop({**crop, "nodule": torch.zeros(1)}, 2)
    assert set(coarse) == set(TENSORS)
    for name in TENSORS:
        blocks = crop[name].float().reshape(2, 2, 3, 2, 4, 2)
        mean = blocks.mean(dim=(1, 3, 5))[None]
        if crop[name].dtype == torch.bool:
            assert torch.equal(coarse[name], mean >= 0.5)
        else:
            torch.testing.assert_close(coarse[name], mean)
    for name, values in pool_crop(crop, 1).items():
        assert torch.equal(values, crop[name])


@pytest.mark.parametrize("kind", [torch.int16, torch.float32])
def test_intensities_are_clipped(kind: torch.dtype) -> None:
    crops = {name: torch.zeros(1, 1, 1, 1, 3) for name in TENSORS}
    crops["image"] = torch.tensor([-1500, -300, 900], dtype=kind).reshape(1, 1, 1, 1, 3)
    batch = make_batch(crops, (-1000.0, 400.0)).to(torch.device("cpu")).split(1)[0]
    assert batch.image_hu.dtype == kind
    assert batch.image.dtype == torch.float32
    assert batch.image.flatten().tolist() == [0.0, 0.5, 1.0]
