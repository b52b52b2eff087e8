"""The recipe: every choice of a data set in one strict YAML file.

The defaults are the paper's where it speaks; `recipes/paper.yaml` spells them out. The sections in `NOT_DECIDING` say
how a run goes, whose verdict counts, what a release holds, what is learned from it and how that is tried, never the
bytes of a case; all others enter the case's digest.
"""

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from matting.errors import InputError
from matting.parameters import (
    ClosedFormSettings,
    CropSettings,
    DensitySettings,
    DiagnosisSettings,
    InformationFlowSettings,
    KnnSettings,
    LearningBasedSettings,
    Parameters,
    ResampleSettings,
    SolverSettings,
    TrainingSettings,
    TrimapSettings,
)

NOT_DECIDING = ("run", "review", "release", "training", "evaluation", "diagnosis")
"""Sections that decide no byte of a case."""
_OPTIONS = ConfigDict(extra="forbid", frozen=True)


class RunSettings(BaseModel):
    """How a run goes; changes nothing in what it stores."""

    model_config = _OPTIONS

    nodules_per_task: int = Field(64, ge=1)
    """Nodules in one Prefect task: what is visible and retried together."""
    retries: int = Field(3, ge=0)
    """How often nodules that failed for a passing reason are tried again."""
    retry_delay_s: float = Field(2.0, gt=0)
    """Wait before the first retry; doubles each time."""
    failure_budget: float = Field(0.2, ge=0, le=1)
    """Share of nodules that may be refused or fail before the run stops early."""


class ReviewSettings(BaseModel):
    """How several people's verdicts on one case are joined: `storage.reviews.consensus`."""

    model_config = _OPTIONS

    rule: Literal["first", "majority", "adjudicator"] = "first"
    reviewers: int = Field(1, ge=1)
    """So many people must have decided a nodule before `majority` or `adjudicator` counts them."""
    adjudicator: str = ""
    """Who settles disputes."""

    @model_validator(mode="after")
    def _check_adjudicator(self) -> "ReviewSettings":
        if (self.rule == "adjudicator") != bool(self.adjudicator):
            raise InputError(
                "the review's rule and adjudicator do not fit",
                got=f"rule {self.rule}, adjudicator {self.adjudicator or 'nobody'}",
                expected="an adjudicator's name with the rule `adjudicator`, and with no other",
                remedy="Name one, or choose another rule.",
            )
        return self


class ReleaseSettings(BaseModel):
    """What a release holds."""

    model_config = _OPTIONS

    split_seed: int = 20221011
    train: float = Field(0.7, gt=0, lt=1)
    validation: float = Field(0.1, ge=0, lt=1)
    """Shares of patients; the test split is the rest."""


class EvaluationSettings(BaseModel):
    """How the paper's experiments are repeated on a release; its networks are trained as `training` says."""

    model_config = _OPTIONS

    partitions: int = Field(4, ge=1)
    """Ways in which the patients are shared out: everything is measured once for each."""
    trained_partitions: int = Field(4, ge=1)
    """On so many of these, the first ones, the networks are trained."""
    variants: tuple[Literal["3dmm", "3dmm-m", "3dmm-mg"], ...] = ("3dmm", "3dmm-m", "3dmm-mg")
    """Networks of Table 2, each with the auxiliary masks and without."""
    test_nodules: int | None = Field(None, ge=1)
    """So many nodules of a test split, drawn by a hash of their ids, are enough to measure a network on; null for all
    of them."""


class Recipe(BaseModel):
    """Every choice of a data set."""

    model_config = _OPTIONS

    name: str = "paper"
    readers: int = Field(4, ge=2)
    """Exactly this many readers must have marked a nodule."""
    crop: CropSettings = CropSettings()
    resample: ResampleSettings = ResampleSettings()
    trimap: TrimapSettings = TrimapSettings()
    solver: SolverSettings = SolverSettings()
    density: DensitySettings = DensitySettings()
    closed_form: ClosedFormSettings = ClosedFormSettings()
    knn: KnnSettings = KnnSettings()
    learning_based: LearningBasedSettings = LearningBasedSettings()
    information_flow: InformationFlowSettings = InformationFlowSettings()
    run: RunSettings = Field(default_factory=RunSettings)
    review: ReviewSettings = Field(default_factory=ReviewSettings)
    release: ReleaseSettings = Field(default_factory=ReleaseSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    diagnosis: DiagnosisSettings = Field(default_factory=DiagnosisSettings)

    @property
    def parameters(self) -> Parameters:
        """What the eight methods take."""
        return Parameters(
            solver=self.solver,
            density=self.density,
            closed_form=self.closed_form,
            knn=self.knn,
            learning_based=self.learning_based,
            information_flow=self.information_flow,
        )

    def deciding(self) -> dict[str, Any]:
        """Give the part that decides the bytes of a case, as JSON."""
        return self.model_dump(mode="json", exclude={"name", *NOT_DECIDING})


def load_recipe(path: str | Path | None = None, **instead: dict[str, Any]) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file, the bare name of a recipe that comes with Halosign (``paper``, ``demo``, ``reduced``), or
            None for the paper's.
        **instead: By section, values that stand in place of the recipe's.

    Raises:
        InputError: The file is not there, no YAML, or holds an unknown name or a value out of range.
    """
    text, place = _recipe_text(path)
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise _bad(
            place, str(error).replace("\n", " "), "YAML", "Mend the file at that place."
        ) from error
    return recipe_from(content, place, **instead)


def recipe_from(content: object, place: str, **instead: dict[str, Any]) -> Recipe:
    """Take a recipe from what YAML or JSON gave; `place` says in messages where it stood. Raises InputError."""
    if not isinstance(content, dict):
        raise _bad(
            place, type(content).__name__, "sections by name", "Begin from recipes/paper.yaml."
        )
    try:
        return Recipe.model_validate(_with(content, instead))
    except ValidationError as error:
        raise _explain(place, error) from error


def _with(content: dict[str, Any], instead: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Put values in place; what is no section is left for the check to refuse."""
    sections = {name: content.get(name) or {} for name in instead}
    return content | {
        name: v | instead[name] if isinstance(v, dict) else v for name, v in sections.items()
    }


def _recipe_text(path: str | Path | None) -> tuple[str, str]:
    name = "paper" if path is None else str(path)
    shipped = files("recipes") / f"{name}.yaml"
    if "/" not in name and not Path(name).exists() and shipped.is_file():
        return shipped.read_text(encoding="utf-8"), f"recipe {name}"
    try:
        return Path(name).read_text(encoding="utf-8"), name
    except (OSError, UnicodeDecodeError) as error:
        remedy = (
            "Check the path, or use one that comes with Halosign: `paper`, `reduced` or `demo`."
        )
        raise _bad(name, error, "a readable YAML file", remedy) from error


def _explain(place: str, error: ValidationError) -> InputError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    where = ".".join(path)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return InputError(f"the recipe {place} cannot be used: {cause.what}", **_rest(cause))
    if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = _known_names(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(known)}."
        return _bad(place, f"the unknown name `{where}`", "a known name", hint)
    return _bad(
        place,
        f"{first['input']!r} for `{where}`",
        first["msg"],
        "Mend that value; recipes/paper.yaml has all.",
    )


def _rest(refusal: InputError) -> dict[str, Any]:
    return {"got": refusal.got, "expected": refusal.expected, "remedy": refusal.remedy}


def _known_names(path: list[str]) -> list[str]:
    level: Any = Recipe()
    for part in path:
        level = getattr(level, part)
    names = (
        type(level).model_fields
        if isinstance(level, BaseModel)
        else type(level).__dataclass_fields__
    )
    return list(names)


def _bad(place: str, got: object, expected: str, remedy: str) -> InputError:
    return InputError(
        f"the recipe {place} cannot be used", got=got, expected=expected, remedy=remedy
    )
