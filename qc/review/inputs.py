"""What a browser sends, and the errors that answer it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from matting.targets import Target
from qc.review.reviewers import NAME_PATTERN
from storage.layout import NODULE_ID

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
VerdictId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class ConflictError(Exception):
    """The request does not match what is stored now, and nothing was recorded (HTTP 409)."""


class UnknownItemError(Exception):
    """There is no such nodule, study or option (HTTP 404)."""


class VerdictIn(BaseModel):
    """A verdict as the page sends it. The choice is given by its position on the screen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: VerdictId
    reviewer: Name
    nodule: Annotated[str, Field(pattern=f"^{NODULE_ID}$")]
    digest: Name
    verdict: Literal["choose", "discard", "flag", "undo"]
    place: Annotated[int, Field(ge=1, le=64)] | None = None
    reason: Literal[
        "", "no-matte-fits", "readers-differ", "no-nodule", "artefact", "cut-off", "other"
    ] = ""
    note: Annotated[str, Field(max_length=2000)] = ""
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False, strict=False)] = 0.0
    blind: bool = False
    undoes: Annotated[str, Field(pattern=r"^([0-9a-f]{8}([0-9a-f]{24})?)?$")] = ""
    target: Target | None = None
    """The question that the page was shown with, which decides the order of its options; None for
    the server's present one."""
    study: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
