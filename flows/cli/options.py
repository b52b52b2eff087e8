"""Options shared by commands of several groups."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from storage.recipe import Recipe

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="HALOSIGN_STORE",
        help="Folder or URL of the store, e.g. ./store or s3://bucket/set.",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="YAML file, or `paper`, `improved` or `demo`.", show_default="paper"
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="A setting in place of the recipe's, e.g. trimap.dilation_mm=2; may be repeated.",
    ),
]

_DURATION = re.compile(r"(\d+)([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def chosen_recipe(recipe: str | None, settings: list[str] | None) -> "Recipe":
    """Read a recipe and replace settings of it; raises InputError."""
    from storage.recipe import load_recipe, parse_override

    return load_recipe(recipe, **parse_override(settings or []))


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90m, 24h or 7d; raises typer.BadParameter for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if not match or len(match[1]) > 6:
        raise typer.BadParameter(
            f"got {text!r}, expected minutes, hours or days, e.g. 90m, 24h or 7d"
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def write_duration(duration: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, in hours or minutes."""
    minutes = int(duration.total_seconds()) // 60
    return f"{minutes}m" if minutes % 60 else f"{minutes // 60}h"
