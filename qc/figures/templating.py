"""Pages from templates: one way to fill them, to write numbers on them, and to put them on disk."""

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

NOTHING = "\N{EM DASH}"
"""Stands where there is no value."""


def fill(template: str, **values: Any) -> str:
    """Fill a template; every value is escaped, and a value that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("qc.figures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        heading=_heading,
        fixed=_fixed,
        figure=_figure,
        raw=_raw,
        short=_short,
        size=_size,
        duration=_duration,
        data_uri=_data_uri,
    )
    return environment.get_template(template).render(**values)


def replace_file(path: Path, data: bytes) -> None:
    """Write beside the file, then rename: nobody ever sees half a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _fixed(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def _figure(value: float, digits: int = 2) -> str:
    """Write a number with so many places, or none from a thousand on, where they say nothing."""
    return f"{value:,.{digits if abs(value) < 1000 else 0}f}"


def _raw(value: float) -> str:
    """Write a number to three digits that count, a large one in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _short(value: float | None) -> str:
    """Write a number to three digits that count."""
    return NOTHING if value is None else f"{value:.3g}"


def _heading(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _size(count: int) -> str:
    number, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"


def _data_uri(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
