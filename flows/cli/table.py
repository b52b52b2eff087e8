"""The command `halosign table`: propose a table for a folder."""

from pathlib import Path
from typing import Annotated

import typer


def table(
    folder: Annotated[Path, typer.Argument(help="Folder with volumes and readers' masks.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("TABLE.csv"),
) -> None:
    """Propose a table for a folder in a known layout (LNDb, nnU-Net, BIDS, 3D Slicer), to check."""
    from collections import Counter

    from flows.engine.console import count_of
    from storage.sources.table_proposal import propose_table, write_table

    proposal = propose_table(folder)
    write_table(proposal, out)
    nodules = count_of(len(proposal.rows), "nodule")
    patients = count_of(len({row.patient for row in proposal.rows}), "patient")
    typer.echo(f"{out}: {nodules} of {patients}, by the layout of {proposal.layout}")
    for number, count in sorted(
        Counter(row.number for row in proposal.rows).items(), key=lambda item: item[0] or 0
    ):
        readers = "readers told by the file" if number is None else count_of(number, "reader")
        typer.echo(f"  {count} with {readers}")
    if proposal.unused:
        typer.echo(f"  not used: {len(proposal.unused)} volumes, e.g. {proposal.unused[0]}")
    typer.echo("Check it before use: the names of files are all that was looked at.")
    typer.echo(f"next: halosign plan --files {out} --store ./store")
