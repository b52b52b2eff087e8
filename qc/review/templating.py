"""The templates of the review page."""

from typing import Any

from fastapi.responses import HTMLResponse

from matting.targets import MEANINGS
from qc.figures.templating import html_environment
from qc.report.nodules import METRIC_LABELS
from qc.review.pages import DISCARD_REASONS
from qc.review.queue import SHOW_WORDS, SORT_WORDS


class Templates:
    """The page's templates; every value is escaped, and a missing value is an error."""

    def __init__(self) -> None:
        environment = html_environment(str(__package__))
        environment.globals.update(
            metric_labels=METRIC_LABELS,
            show_words=SHOW_WORDS,
            sort_words=SORT_WORDS,
            discard_reasons=DISCARD_REASONS,
            meanings=MEANINGS,
            other_target={"density": "opacity", "opacity": "density"},
        )
        self._environment = environment

    def text(self, template: str, **values: Any) -> str:
        """Return a template filled with values."""
        return self._environment.get_template(template).render(**values)

    def page(self, template: str, code: int = 200, **values: Any) -> HTMLResponse:
        """Return a response with a template filled with values."""
        return HTMLResponse(self.text(template, **values), code)
