"""The command line: `halosign`.

Exit codes: 0 success, 1 some nodules have invalid input or failed (all others are stored) or the
source is away (nothing is touched), 2 wrong usage or invalid input.
"""

import errno
import os
import shutil
import signal
import sys
from importlib.metadata import version
from textwrap import fill
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from flows.cli.commands import INTERRUPTED, KEPT, CommandInterrupted, Commands, Group
from flows.cli.curation import curation
from flows.cli.maintenance import maintenance
from flows.cli.network import network
from flows.cli.release import release
from flows.cli.review import review
from matting.errors import InputError
from storage.errors import StoreError
from storage.sources.errors import SourceUnreachableError

SECTIONS = ("Curate", "Review", "Release", "Network", "Operate")
"""Titles in the help, in the order in which they are used."""


class _Sections(Group):
    """The application, whose help shows its commands in the order of the pipeline."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, section by section."""

        def section(name: str) -> int:
            command: Any = self.commands[name]
            return SECTIONS.index(command.rich_help_panel)

        return sorted(super().list_commands(ctx), key=section)


app = Commands(
    cls=_Sections,
    pretty_exceptions_enable=False,
    help="From annotated CT scans to a released, versioned data set of 3D alpha mattes.",
)
app.add_typer(curation)
app.add_typer(review, name="review", rich_help_panel="Review")
app.add_typer(release, name="release", rich_help_panel="Release")
app.add_typer(network)
app.add_typer(maintenance, name="store", rich_help_panel="Operate")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"halosign {version('halosign')}")
        raise typer.Exit


@app.callback()
def options(
    wants_version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options of the application itself."""


_WIDEST = 100
"""Columns of a message on a terminal."""
_USERS_TO_MEND = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
}
"""Errors of the system that say something about a path or a disk, and nothing about the program."""


def main() -> NoReturn:
    """Run the command line.

    An error in usage or input ends with exit code 2 and one message, without a traceback; a
    source that is away with exit code 1, since the same command works when it is back.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # The terminal shows our own progress and summary; the engine's chatter stays one setting away.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    try:
        app()
    except (InputError, StoreError) as error:
        _print_error(str(error))
        sys.exit(1 if isinstance(error, SourceUnreachableError) else 2)
    except OSError as error:
        if error.errno not in _USERS_TO_MEND:
            raise
        place = f" {error.filename}" if error.filename else ""
        _print_error(
            f"the system cannot use a file: got{place}: {error.strerror}, expected a path "
            "that can be read or written, and room on the disk. Correct that, then run the same "
            "command again."
        )
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            kept = end.kept if isinstance(end, CommandInterrupted) else KEPT
            typer.secho(
                f"interrupted: {kept}. Run the same command again to continue.",
                fg="yellow",
                err=True,
            )
        raise
    sys.exit(0)


def _print_error(message: str) -> None:
    """Print a message: for a terminal in lines of whole words, else, as for a log, in one."""
    text = f"error: {message}"
    if sys.stderr.isatty():
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        text = "\n".join(_fill_line(line, width) for line in text.splitlines())
    typer.secho(text, fg="red", err=True)


def _fill_line(line: str, width: int) -> str:
    """Break a line between words, and indent what follows; a path or a long word is not broken."""
    return fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
