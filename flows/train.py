"""Training: released crops -> network -> checkpoint -> scores on the test split."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import Queue, get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread
from typing import Any, cast

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.engine.console import console
from flows.engine.progress_bar import ProgressBar
from flows.score import measure_methods, measure_network, table_rows
from matting.learned.devices import pick_device
from matting.learned.network import check_network
from matting.parameters import Auxiliary
from qc.report.training import draw_curves, draw_samples, losses_csv, sample_view
from storage.recipe import load_recipe
from storage.records import Line
from storage.releases.release import open_release
from storage.results.checkpoints import preview_url, write_preview
from tasks.learning.callbacks import StepInfo, TrainingSnapshot
from tasks.learning.negatives import read_negatives
from tasks.learning.train import TrainingJob, learn, network_spacing_mm, training_id_of

TEST_SPLIT = "test"
"""Split on which a trained network is scored: patients that training does not see."""
_own_device = "auto"
"""The device of this process, where several train side by side."""


@flow(name="train")
def train(
    store_url: str,
    version: str,
    variant: str = "3dmm-mg",
    auxiliary: Auxiliary = "told",
    recipe: str | None = None,
    device: str = "auto",
    settings: dict[str, Any] | None = None,
    resume: bool = True,
    negatives: str | None = None,
) -> str:
    """Train a network on a release and score it on the test split.

    Args:
        store_url: Folder or URL of the store.
        version: A published version.
        variant: 3dmm, 3dmm-m or 3dmm-mg.
        auxiliary: told, untold or none: what becomes of the auxiliary masks.
        recipe: YAML file or name of a recipe; its section `training` is used.
        device: Where to train, e.g. auto, cpu or cuda:1.
        settings: By section, values that replace the recipe's.
        resume: Resume an interrupted training.
        negatives: Table of points without a nodule to train on too.

    Returns:
        The digest of the checkpoint.
    """
    job = make_training_job(
        store_url, version, variant, auxiliary, recipe, device, settings, negatives
    )
    digest = fit(job, resume)
    lines = measure_methods(job.release, TEST_SPLIT)
    lines = lines + measure_network(job.release, digest, TEST_SPLIT, device)
    create_training_artifacts(job, digest, lines)
    return digest


def make_training_job(
    store_url: str,
    version: str,
    variant: str,
    auxiliary: Auxiliary,
    recipe: str | None,
    device: str,
    settings: dict[str, Any] | None,
    negatives: str | None = None,
) -> TrainingJob:
    """Combine the options of a training with the settings of a recipe.

    Raises:
        InputError: There is no such network, device, recipe or release, or the points without a
            nodule cannot be read.
    """
    check_network(variant, auxiliary)
    pick_device(device)
    training = load_recipe(recipe, **(settings or {})).training
    release = open_release(store_url, version)
    spacing_mm = network_spacing_mm(release, training)
    return TrainingJob(
        *(release, variant, auxiliary, training, device),
        negatives=read_negatives(Path(negatives), spacing_mm, training.crop_zyx)
        if negatives
        else (),
    )


@task(name="fit", cache_policy=NO_CACHE)
def fit(job: TrainingJob, resume: bool) -> str:
    """Train, write curves and sample mattes after every epoch, and return the digest."""
    store = job.release.store
    name = training_id_of(job)
    console.print(
        f"training {name}: curves and sample mattes in {preview_url(store, name)}", markup=False
    )
    with ProgressBar("training", kept=True) as progress:

        def on_step(step: StepInfo) -> None:
            if not progress.completed:
                progress.resume(step.step - 1)
            text = f"steps of epoch {step.epoch} of {step.epochs}"
            progress.update(step.step, total=step.steps, text=text)

        return _learn_with_previews(job, resume=resume, on_step=on_step)


@task(name="fit each on a GPU of its own", cache_policy=NO_CACHE)
def fit_side_by_side(jobs: Sequence[TrainingJob], devices: Sequence[str]) -> None:
    """Train several networks at the same time, each in a process and on a device of its own.

    Those that were trained before are not trained again, and interrupted ones resume.

    Args:
        jobs: The trainings, in the order in which they begin; their own devices are not used.
        devices: As for `pick_device`, one training on each at a time.

    Raises:
        InputError: A training is impossible, or its loss diverged. The others end too, and resume
            when they are asked for again.
    """
    context = get_context("spawn")
    free, stop = context.Queue(), context.Event()
    for device in devices:
        free.put(device)
    bar = ProgressBar(f"training networks on {len(devices)} devices", len(jobs), kept=True)
    with bar, ProcessPoolExecutor(len(devices), context, _take_device, (free, stop)) as pool:
        try:
            for training in as_completed([pool.submit(_learn_on_own_device, job) for job in jobs]):
                training.result()
                bar.advance()
        except BaseException:
            stop.set()
            raise


def _take_device(free: "Queue[str]", stop: Event) -> None:
    """Take one of the devices for this process, which ends when told to or left alone."""
    global _own_device
    _own_device = free.get()

    def end_with_parent() -> None:
        parent = cast(BaseProcess, parent_process())
        while parent.is_alive() and not stop.wait(1.0):
            pass
        os._exit(1)

    Thread(target=end_with_parent, daemon=True).start()


def _learn_on_own_device(job: TrainingJob) -> str:
    return _learn_with_previews(replace(job, device=_own_device), resume=True)


def _learn_with_previews(
    job: TrainingJob, *, resume: bool, on_step: Callable[[StepInfo], None] = lambda _: None
) -> str:
    store = job.release.store
    name = training_id_of(job)

    def on_epoch(snapshot: TrainingSnapshot) -> None:
        write_preview(store, name, snapshot_files(snapshot))

    return learn(job, resume=resume, on_step=on_step, on_epoch=on_epoch).digest


def snapshot_files(snapshot: TrainingSnapshot) -> dict[str, bytes]:
    """Return the loss table, the curves and the sample mattes after an epoch, by file name."""
    last: dict[str, Any] = snapshot.rows[-1]
    views = [
        sample_view(s.nodule_id, s.image_hu, s.truth, s.predicted, s.union)
        for s in snapshot.samples
    ]
    title = f"epoch {last['epoch']}, {snapshot.split} split"
    curves = draw_curves(snapshot.rows, split=snapshot.split, synthetic=snapshot.synthetic)
    samples = draw_samples(views, title, synthetic=snapshot.synthetic)
    return {
        "losses.csv": losses_csv(snapshot.rows),
        "curves.png": curves,
        f"samples/epoch-{last['epoch']:04d}.png": samples,
    }


@task(name="create training artifacts", cache_policy=NO_CACHE)
def create_training_artifacts(job: TrainingJob, digest: str, lines: list[Line]) -> None:
    """Create a note and the table of metrics as artifacts in Prefect."""
    create_table_artifact(
        table=table_rows(lines),
        key="metrics",
        description=f"Release {job.release.version}, {TEST_SPLIT}",
    )
    text = (
        f"**{job.variant}** trained on release **{job.release.version}** of "
        f"`{job.release.store.url}`: checkpoint `{digest}`. Mattes: "
        f"{job.release.manifest.form_name}."
    )
    create_markdown_artifact(markdown=text, key="training", description="Trained network")
