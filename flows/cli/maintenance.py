"""The commands that maintain a store: `halosign store`."""

from typing import Annotated

import typer

from flows.cli.commands import Commands
from flows.cli.options import StoreOption

maintenance = Commands(help="Maintain a store.")


@maintenance.command(
    "check",
    kept="nothing is deleted; with --repair, files that were set aside are in quarantine/",
    epilog="Example: halosign store check --store ./store",
)
def store_check(
    store: StoreOption,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move damaged files to quarantine/; nothing is deleted."),
    ] = False,
) -> None:
    """Read everything that a store holds, name every damaged file, and say what repairs it.

    Files are compared with their SHA-256; `halosign release verify` does so for one release.
    """
    from flows.cli.checking import check_store, repair_store
    from storage.store import open_store

    opened = open_store(store)
    complaints = check_store(opened)
    if repair and complaints:
        repair_store(opened, complaints)
    raise typer.Exit(1 if complaints else 0)


@maintenance.command(
    "gc",
    kept="whatever anything refers to is kept, and what was removed stays removed",
    help="List or remove cases that nothing refers to, and what interrupted runs left.\n\n"
    "Keeps what is younger than --grace and whatever a curation may write.",
    epilog="Example: halosign store gc --store ./store --delete",
)
def store_gc(
    store: StoreOption,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Remove them; without this option they are only counted."),
    ] = False,
    grace: Annotated[
        str,
        typer.Option(help="Keep what was written within this time, e.g. 90m, 24h or 7d."),
    ] = "24h",
) -> None:
    """List or remove what nothing refers to."""
    from flows.cli.options import parse_duration
    from flows.cli.printing import show_garbage
    from storage.maintenance.gc import find_garbage, remove_garbage
    from storage.store import open_store

    kept_for = parse_duration(grace)
    opened = open_store(store)
    garbage = find_garbage(opened, kept_for)
    if delete:
        garbage = remove_garbage(opened, garbage, kept_for)
    show_garbage(garbage, kept_for, delete)
