"""The commands of the network: train it on a release, measure it, use it on a CT."""

from pathlib import Path
from typing import Annotated

import typer

from flows.options import StoreOption

VersionOption = Annotated[str, typer.Option("--release", help="A published version, e.g. 0.1.0.")]
DeviceOption = Annotated[str, typer.Option(help="auto (the GPU where there is one), cpu, cuda, cuda:1.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: halosign train --release 0.1.0 --store ./store --variant 3dmm-mg --epochs 20")(train)
    app.command(epilog="Example: halosign evaluate --release 0.1.0 --store ./store")(evaluate)
    app.command(
        epilog="Example: halosign predict --checkpoint ./store/checkpoints/6cbb43e2 --image ct.nii.gz "
        "--point 61,240,310 --out ./prediction"
    )(predict)


def train(
    release: VersionOption,
    store: StoreOption,
    variant: Annotated[str, typer.Option(help="3dmm, 3dmm-m or 3dmm-mg.")] = "3dmm-mg",
    auxiliary: Annotated[bool, typer.Option("--aux/--no-aux", help="With the auxiliary masks or without.")] = True,
    recipe: Annotated[str | None, typer.Option(help="YAML file; its section `training` counts.")] = None,
    device: DeviceOption = "auto",
    epochs: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--anew", help="Go on where it stopped, or begin again.")] = True,
) -> None:
    """Train the network 3DMM on a release. Run it again to resume; ended, it is not trained again."""
    from flows.console import show_scores
    from flows.server import prefect_server
    from flows.train import MEASURED_ON, make_order, train
    from storage.checkpoints import checkpoint_prefix
    from storage.scores import METHODS, read_lines
    from storage.store import open_store
    from tasks.train import name_of

    # What cannot be trained is refused before a server is started for it.
    name_of(make_order(store, release, variant, auxiliary, recipe, device, epochs))
    with prefect_server():
        digest = train(store, release, variant, auxiliary, recipe, device, epochs, resume)
    opened = open_store(store)
    show_scores(opened, release, MEASURED_ON, read_lines(opened, release, MEASURED_ON, METHODS, digest))
    typer.echo(f"checkpoint: {opened.url}/{checkpoint_prefix(digest)}")


def evaluate(
    release: VersionOption,
    store: StoreOption,
    checkpoint: Annotated[str | None, typer.Option(help="Digest of a network; all measured if left out.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    device: DeviceOption = "auto",
) -> None:
    """Measure the eight methods, the trivial mattes and a network against a release: SAD, MSE, Grad and Conn."""
    from flows.console import show_scores
    from flows.evaluate import evaluate
    from flows.server import prefect_server
    from storage.reader import ReleaseReader
    from storage.store import open_store

    ReleaseReader(store, release).nodules(split)
    with prefect_server():
        lines = evaluate(store, release, checkpoint, split, device)
    show_scores(open_store(store), release, split, lines)


def predict(
    checkpoint: Annotated[str, typer.Option(help="Folder or URL of a checkpoint, as `train` prints it.")],
    image: Annotated[Path, typer.Option(help="CT in HU: NIfTI, NRRD, MHA, or a folder with one DICOM series.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    point: Annotated[str | None, typer.Option(help="Voxel z,y,x in the nodule; a cube of 64 mm is looked at.")] = None,
    box: Annotated[str | None, typer.Option(help="First and last voxel, z,y,x,z,y,x; left out, all.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Estimate the matte of an unseen CT, and what all and what any readers would mark. No trimap is needed."""
    from tasks.predict import Place, predict_file

    files = predict_file(checkpoint, image, Place.parse(point, box), out, device)
    for file in files:
        typer.echo(file)
