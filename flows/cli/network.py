"""The commands of the network: train it on a release, measure it, use it on a CT."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import StoreOption

VersionOption = Annotated[str, typer.Option("--release", help="A published version, e.g. 0.1.0.")]
DeviceOption = Annotated[
    str, typer.Option(help="auto (the GPU where there is one), cpu, cuda, cuda:1.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog="Example: halosign train --release 0.1.0 --store ./store --variant 3dmm-mg --epochs 20"
    )(train)
    app.command(
        epilog="Example: halosign evaluate --release 0.1.0 --store ./store --out ./experiments"
    )(evaluate)
    app.command(
        epilog="Example: halosign predict --checkpoint ./store/checkpoints/6cbb43e2 --image ct.nii.gz "
        "--point 61,240,310 --out ./prediction"
    )(predict)


def train(
    release: VersionOption,
    store: StoreOption,
    variant: Annotated[str, typer.Option(help="3dmm, 3dmm-m or 3dmm-mg.")] = "3dmm-mg",
    auxiliary: Annotated[
        bool, typer.Option("--aux/--no-aux", help="With the auxiliary masks or without.")
    ] = True,
    recipe: Annotated[
        str | None, typer.Option(help="YAML file; its section `training` counts.")
    ] = None,
    device: DeviceOption = "auto",
    epochs: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--anew", help="Go on where it stopped, or begin again.")
    ] = True,
) -> None:
    """Train the network 3DMM on a release. Run it again to resume; ended, it is not trained again."""
    from flows.cli.printing import show_scores
    from flows.engine.prefect_server import prefect_server
    from flows.train import MEASURED_ON, make_order, train
    from storage.results.checkpoints import checkpoint_prefix
    from storage.results.scores import METHOD_SCORES, read_lines
    from storage.store import open_store
    from tasks.learning.train import training_id_of

    # What cannot be trained is refused before a server is started for it.
    training_id_of(make_order(store, release, variant, auxiliary, recipe, device, epochs))
    with prefect_server():
        digest = train(store, release, variant, auxiliary, recipe, device, epochs, resume)
    opened = open_store(store)
    show_scores(
        opened,
        release,
        MEASURED_ON,
        read_lines(opened, release, MEASURED_ON, METHOD_SCORES, digest),
    )
    typer.echo(f"checkpoint: {opened.url}/{checkpoint_prefix(digest)}")


def evaluate(
    release: VersionOption,
    store: StoreOption,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="YAML file, `paper` or `reduced`; its training, evaluation, diagnosis count."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a copy of the report and its files.")
    ] = None,
    parts: Annotated[
        str, typer.Option(help="Some of tables,diagnosis,figures.")
    ] = "tables,diagnosis,figures",
    train: Annotated[
        bool, typer.Option("--train", help="Train what is missing; else it is listed as such.")
    ] = False,
    device: DeviceOption = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local processes; one a core when left out.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Measure this network only (a digest), print its scores, and no more."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Measure on train, validation or test, and no more.")
    ] = None,
) -> None:
    """Repeat the paper's experiments on a release: Tables 1-3 and the figures, as CSV and as one HTML report.

    What was measured or trained before is not done again: the same command goes on where it was stopped.
    """
    if checkpoint or split:
        _measure(store, release, checkpoint, split or "test", device)
        return
    from flows.cli.printing import show_experiments
    from flows.engine.cluster import Cluster
    from flows.engine.prefect_server import prefect_server
    from flows.evaluate import Experiments, check_parts, evaluate
    from storage.recipe import load_recipe
    from storage.releases.release import open_release
    from storage.store import copy_folder, open_store
    from tasks.experiments.summary import check_experiments

    wanted = tuple(name.strip() for name in parts.split(",") if name.strip())
    asked = Experiments(
        store, release, load_recipe(recipe), device, train, wanted, Cluster(workers=workers)
    )
    # What cannot be tried is refused before a server is started for it.
    check_parts(wanted)
    check_experiments(open_release(store, release), asked.recipe, device)
    with prefect_server():
        place = evaluate(asked)
    show_experiments(open_store(store), release, asked.recipe.name)
    if out:
        copy_folder(place, out)
    typer.echo(f"report: {out or place}/report.html")


def _measure(store: str, release: str, checkpoint: str | None, split: str, device: str) -> None:
    from flows.cli.printing import show_scores
    from flows.engine.prefect_server import prefect_server
    from flows.score import measure
    from storage.releases.reader import ReleaseReader
    from storage.releases.release import open_release
    from storage.store import open_store

    ReleaseReader(open_release(store, release)).nodules(split)
    with prefect_server():
        lines = measure(store, release, checkpoint, split, device)
    show_scores(open_store(store), release, split, lines)


def predict(
    checkpoint: Annotated[
        str, typer.Option(help="Folder or URL of a checkpoint, as `train` prints it.")
    ],
    image: Annotated[
        Path, typer.Option(help="CT in HU: NIfTI, NRRD, MHA, or a folder with one DICOM series.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    point: Annotated[
        str | None, typer.Option(help="Voxel z,y,x in the nodule; a cube of 64 mm is looked at.")
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="First and last voxel, z,y,x,z,y,x; left out, all.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Estimate the matte of an unseen CT, and what all and what any readers would mark. No trimap is needed."""
    from tasks.learning.predict import PixelBox, predict_file

    files = predict_file(checkpoint, image, PixelBox.parse(point, box), out, device)
    for file in files:
        typer.echo(file)
