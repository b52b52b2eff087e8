"""Groups of commands whose help is short, and which say what is kept where they are interrupted.

Short: `-h`, and no type beside a switch.
"""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from storage.errors import plain_words

CONTEXT = {"help_option_names": ["-h", "--help"]}
INTERRUPTED = 130
"""The exit code by which shells report a command that Ctrl-C ended."""
KEPT = "what was stored before is unchanged"
"""Of a command that stores nothing, or all at once."""


class CommandInterrupted(SystemExit):
    """Ends a command that Ctrl-C or SIGTERM interrupted."""

    def __init__(self, kept: str) -> None:
        """Keep what the user is told about the command's work."""
        super().__init__(INTERRUPTED)
        self.kept = kept


class _Plain:
    """Shows no type beside a switch, and says of an invalid value what was got and expected."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read the options.

        Raises:
            typer.BadParameter: A value is invalid.
        """
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.BadParameter as error:
            from pydantic import ValidationError

            cause = error.__cause__
            if isinstance(cause, ValidationError):
                first = cause.errors(include_url=False)[0]
                expected = plain_words(first["msg"]).partition(" is not one of ")
                error.message = (
                    f"got {first['input']!r}, expected "
                    f"{'one of ' + expected[2] if expected[2] else expected[0]}"
                )
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        """Return arguments and options, those that typer adds by itself included."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for option in params:
            if isinstance(option, TyperOption) and option.is_flag:
                option.metavar = ""
        return params


class Group(_Plain, TyperGroup):
    """A group of commands with short help."""


class Command(_Plain, TyperCommand):
    """A command with short help; what it keeps of its work is its context's object."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            CommandInterrupted: It was interrupted.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise CommandInterrupted(ctx.obj) from error


class Commands(typer.Typer):
    """An application, or a group of its commands."""

    def __init__(self, *, section: str | None = None, **keywords: Any) -> None:
        """Make a group that shows its help where no command is given.

        Args:
            section: Title of its commands in the help of the application that they are added to.
            **keywords: As `typer.Typer` takes them.
        """
        self._section = {"rich_help_panel": section} if section else {}
        defaults = {"cls": Group, "no_args_is_help": True, "context_settings": CONTEXT}
        super().__init__(**{**defaults, **keywords})

    def command(
        self, name: str | None = None, *, kept: str = KEPT, **keywords: Any
    ) -> Callable[[Any], Any]:
        """Add a command.

        Args:
            name: As `typer.Typer.command` takes it.
            kept: What is kept of its work where it is interrupted, for the user to read.
            **keywords: As `typer.Typer.command` takes them.
        """
        context = {**CONTEXT, "obj": kept}
        own: dict[str, Any] = {"cls": Command, "context_settings": context, **self._section}
        return super().command(name, **{**own, **keywords})
