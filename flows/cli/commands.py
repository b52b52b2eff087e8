"""Groups of commands whose help is short: `-h`, and no type beside a switch."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

CONTEXT = {"help_option_names": ["-h", "--help"]}


class _ShortHelp:
    """Shows no type beside a switch."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return arguments and options, those that typer adds by itself included."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for option in params:
            if isinstance(option, TyperOption) and option.is_flag:
                option.metavar = ""
        return params


class Group(_ShortHelp, TyperGroup):
    """A group of commands with short help."""


class Command(_ShortHelp, TyperCommand):
    """A command with short help."""


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

    def command(self, name: str | None = None, **keywords: Any) -> Callable[[Any], Any]:
        """Add a command; takes what `typer.Typer.command` takes."""
        own: dict[str, Any] = {"cls": Command, "context_settings": CONTEXT, **self._section}
        return super().command(name, **{**own, **keywords})
