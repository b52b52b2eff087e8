"""Options shared by commands of several groups."""

from typing import Annotated

import typer

StoreOption = Annotated[
    str,
    typer.Option("--store", help="Folder or URL of the store, e.g. ./store or s3://bucket/set."),
]
