"""Looks at pages in a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(
    params=[
        pytest.param((1280, "light"), id="1280-light"),
        pytest.param((1920, "dark"), id="1920-dark", marks=pytest.mark.slow),
    ]
)
def look_at_file(
    request: pytest.FixtureRequest, chromium: Any, axe_faults: Callable[[Any], list[Any]]
) -> Iterator[Callable[[Path], None]]:
    """Open a self-contained page: it asks for nothing else, fits, and has no fault."""
    width, scheme = request.param
    context = chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )

    def look_at(path: Path) -> None:
        page, asked, complaints = context.new_page(), [], []
        page.on("request", lambda sent: asked.append(sent.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert axe_faults(page) == []
        assert complaints == []

    yield look_at
    context.close()
