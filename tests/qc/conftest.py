"""A browser for whatever is looked at."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; the tests that need one are skipped where there is none."""
    path = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        "",
    )
    if not path:
        pytest.skip("no Chromium on this machine: install Debian's package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe_faults() -> Callable[[Any], list[Any]]:
    """Return what axe complains of on a page of the browser: rule, impact, elements."""
    package = pytest.importorskip("axe_playwright_python")
    script = next(Path(package.__file__).parent.rglob("axe.min.js")).read_text()

    def look_at(page: Any) -> list[Any]:
        found = page.evaluate(f"async () => {{ {script}; return (await axe.run()).violations; }}")
        return [(one["id"], one["impact"], [n["html"] for n in one["nodes"]]) for one in found]

    return look_at


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
