"""Training: released crops -> network -> checkpoint -> scores on the test split."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.engine.console import console
from flows.engine.progress_bar import ProgressBar
from flows.score import measure_methods, measure_network, table_rows
from matting.learned.network import check_network
from matting.learned.training import pick_device
from matting.parameters import Auxiliary
from qc.report.training import draw_curves, draw_samples, losses_csv, sample_view
from storage.recipe import load_recipe
from storage.records import Line
from storage.releases.release import open_release
from storage.results.checkpoints import preview_url, write_preview
from tasks.learning.negatives import read_negatives
from tasks.learning.train import (
    StepInfo,
    TrainingJob,
    TrainingSnapshot,
    learn,
    network_spacing_mm,
    training_id_of,
)

TEST_SPLIT = "test"
"""Split on which a trained network is scored: patients that training does not see."""


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
