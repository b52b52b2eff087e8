"""Training: released crops -> the network, epoch by epoch -> checkpoint -> its metrics, attached to the release."""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.cli.printing import console
from flows.score import measure_methods, measure_network, table_rows
from qc.report.training import draw_curves, draw_samples, losses_csv, view
from storage.recipe import load_recipe
from storage.results.checkpoints import look_place, save_look
from storage.results.scores import Line
from storage.store import open_store
from tasks.learning.train import StepInfo, TrainingJob, TrainingSnapshot, learn, training_id_of

MEASURED_ON = "test"
"""Split on which a trained network is measured: patients that training never saw."""


@flow(name="train")
def train(
    store_url: str,
    version: str,
    variant: str = "3dmm-mg",
    auxiliary: bool = True,
    recipe: str | None = None,
    device: str = "auto",
    epochs: int | None = None,
    resume: bool = True,
) -> str:
    """Train a network on a release and measure it on the test split; gives the checkpoint's digest."""
    order = make_order(store_url, version, variant, auxiliary, recipe, device, epochs)
    digest = fit(order, resume)
    lines = measure_methods(store_url, version, MEASURED_ON)
    lines = lines + measure_network(store_url, version, digest, MEASURED_ON, device)
    announce(order, digest, lines)
    return digest


def make_order(
    store_url: str,
    version: str,
    variant: str,
    auxiliary: bool,
    recipe: str | None,
    device: str,
    epochs: int | None,
) -> TrainingJob:
    """Read the recipe's training, with another number of epochs where one is given."""
    training = load_recipe(recipe, training={"epochs": epochs} if epochs else {}).training
    return TrainingJob(store_url, version, variant, auxiliary, training, device)


@task(name="fit", cache_policy=NO_CACHE)
def fit(order: TrainingJob, resume: bool) -> str:
    """Train, with a bar to watch and something to look at after every epoch."""
    store, name = open_store(order.store_url), training_id_of(order)
    console.print(
        f"training {name}: curves and sample mattes in {look_place(store, name)}", markup=False
    )
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=None, epoch="-")

        def on_step(step: StepInfo) -> None:
            progress.update(
                bar, completed=step.step, total=step.steps, epoch=f"{step.epoch}/{step.epochs}"
            )

        def on_epoch(look: TrainingSnapshot) -> None:
            save_look(store, name, early_look(look))

        return learn(order, resume=resume, on_step=on_step, on_epoch=on_epoch).digest


def early_look(look: TrainingSnapshot) -> dict[str, bytes]:
    """Draw what there is to look at after an epoch: files by name."""
    last: dict[str, Any] = look.rows[-1]
    views = [view(s.nodule_id, s.image_hu, s.truth, s.predicted, s.union) for s in look.samples]
    title = f"epoch {last['epoch']}, {look.split} split"
    return {
        "losses.csv": losses_csv(look.rows),
        "curves.png": draw_curves(look.rows, split=look.split, stand_in=look.stand_in),
        f"samples/epoch-{last['epoch']:04d}.png": draw_samples(
            views, title, stand_in=look.stand_in
        ),
    }


@task(name="announce", cache_policy=NO_CACHE)
def announce(order: TrainingJob, digest: str, lines: list[Line]) -> None:
    """Leave a note and the table of metrics where Prefect's users look."""
    create_table_artifact(
        table=table_rows(lines),
        key="metrics",
        description=f"Release {order.version}, {MEASURED_ON}",
    )
    text = f"**{order.variant}** trained on release **{order.version}** of `{order.store_url}`: checkpoint `{digest}`"
    create_markdown_artifact(markdown=text, key="training", description="What was trained")
