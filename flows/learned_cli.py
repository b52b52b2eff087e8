"""The commands of the network: train it on a release."""

from typing import Annotated

import typer

StoreOption = Annotated[
    str, typer.Option("--store", help="Folder or URL of the store, e.g. ./store or s3://bucket/set.")
]
VersionOption = Annotated[str, typer.Option("--release", help="A published version, e.g. 0.1.0.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: halosign train --release 0.1.0 --store ./store --variant 3dmm-mg --epochs 20")(train)


def train(
    release: VersionOption,
    store: StoreOption,
    variant: Annotated[str, typer.Option(help="3dmm, 3dmm-m or 3dmm-mg.")] = "3dmm-mg",
    auxiliary: Annotated[bool, typer.Option("--aux/--no-aux", help="With the auxiliary masks or without.")] = True,
    recipe: Annotated[str | None, typer.Option(help="YAML file; its section `training` counts.")] = None,
    device: Annotated[str, typer.Option(help="auto (the GPU where there is one), cpu, cuda, cuda:1.")] = "auto",
    epochs: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--anew", help="Go on where it stopped, or begin again.")] = True,
) -> None:
    """Train the network 3DMM on a release. Run it again to resume; ended, it is not trained again."""
    from flows.server import prefect_server
    from flows.train import make_order, train
    from storage.checkpoints import checkpoint_prefix
    from storage.store import open_store
    from tasks.train import name_of

    # What cannot be trained is refused before a server is started for it.
    name_of(make_order(store, release, variant, auxiliary, recipe, device, epochs))
    with prefect_server():
        digest = train(store, release, variant, auxiliary, recipe, device, epochs, resume)
    typer.echo(f"{open_store(store).url}/{checkpoint_prefix(digest)}")
