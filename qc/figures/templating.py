"""Render HTML templates, format their values, and write the result to disk."""

import hashlib
from base64 import b64encode
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

NO_VALUE = "\N{EM DASH}"
"""Shown where there is no value."""


def html_environment(package: str) -> Environment:
    """Return the templates of a package; values are escaped, and a missing one is an error."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_template(template: str, **values: Any) -> str:
    """Render a template; values are HTML-escaped, and a missing value is an error."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    # Kept, so that a template is compiled once and not for every nodule of a report.
    environment = html_environment(str(__package__))
    environment.filters.update(
        heading=_heading,
        fixed=_fixed,
        rounded=_rounded,
        raw=_raw,
        short=_short,
        size=_size,
        duration=_duration,
        data_uri=data_uri,
    )
    return environment


def data_uri(picture: bytes, kind: str = "png") -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


def script_hash(script: str) -> str:
    """Return the source expression by which a content policy allows one script in a page."""
    return f"sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def read_script(name: str) -> str:
    """Read a script that lies beside the templates."""
    return files(str(__package__)).joinpath("templates", name).read_text()


def _fixed(value: float | None, digits: int = 3) -> str:
    return NO_VALUE if value is None else f"{value:,.{digits}f}"


def _rounded(value: float, digits: int = 2) -> str:
    """Return a number with that many decimals, or with none from a thousand on."""
    return f"{value:,.{digits if abs(value) < 1000 else 0}f}"


def _raw(value: float) -> str:
    """Return a number with three significant digits, a large one in full."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _short(value: float | None) -> str:
    """Return a number with three significant digits."""
    return NO_VALUE if value is None else f"{value:.3g}"


def _heading(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _size(count: int) -> str:
    number = float(count)
    unit = "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number /= 1000
        unit = larger
    return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NO_VALUE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
