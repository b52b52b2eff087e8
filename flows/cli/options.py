"""Options shared by commands of several groups."""

import re
from datetime import timedelta
from typing import Annotated

import typer

StoreOption = Annotated[
    str,
    typer.Option("--store", help="Folder or URL of the store, e.g. ./store or s3://bucket/set."),
]

_DURATION = re.compile(r"(\d+)([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


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
