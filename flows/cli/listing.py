"""Print the nodules of a store: as a table for people, as CSV or JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import typer
from rich.table import Table

from flows.engine.console import console, count_of
from storage.results.csv_rows import to_csv
from storage.reviews.listing import NoduleRow

Layout = Literal["table", "csv", "json"]
_DIGEST_LETTERS = 12


def print_rows(rows: Sequence[NoduleRow], layout: Layout) -> None:
    """Print the nodules of a store.

    Args:
        rows: The nodules.
        layout: ``table`` shortens digests and leaves out what seldom matters; the others do not.
    """
    if layout == "json":
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif layout == "csv":
        typer.echo(to_csv(NoduleRow, rows).decode(), nl=False)
    else:
        console.print(_table(rows))


def _table(rows: Sequence[NoduleRow]) -> Table:
    table = Table(box=None, caption=count_of(len(rows), "nodule"), caption_justify="left")
    for name in ("nodule", "state", "chosen", "digest"):
        table.add_column(name, no_wrap=True)
    for name in ("MB", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for row in rows:
        table.add_row(
            row.nodule,
            row.state,
            row.choice,
            row.digest[:_DIGEST_LETTERS],
            f"{row.megabytes:.1f}" if row.megabytes else "",
            f"{row.seconds:.1f}" if row.seconds else "",
            row.reason,
        )
    return table
