"""The recipe: every setting of a data set in one strict YAML file.

The defaults are the paper form of the methods, and elsewhere the paper's values where it gives any;
`recipes/paper.yaml` lists all of them, `recipes/improved.yaml` has the improved form. The sections
in `OUTSIDE_CONTENT_KEY` set how a run is executed, whose verdict counts, how a release is
split, and how networks are trained and evaluated. They do not affect the bytes of a case; all
other sections enter the case's digest.
"""

import difflib
import reprlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import recipes
from matting.errors import InputError
from matting.parameters import (
    ClosedFormSettings,
    CropSettings,
    DensitySettings,
    DiagnosisSettings,
    Form,
    InformationFlowSettings,
    KnnSettings,
    LearningBasedSettings,
    Parameters,
    PriorSettings,
    ResampleSettings,
    SolverSettings,
    TrainingSettings,
    TrimapSettings,
    Variant,
    form_of,
)
from matting.targets import Target
from storage.errors import plain_words
from storage.records import JsonObject

OUTSIDE_CONTENT_KEY = ("source", "run", "review", "release", "training", "evaluation", "diagnosis")
"""Sections that do not affect the bytes of a case."""
SHIPPED = ("paper", "improved", "cpu", "demo")
"""Names of the recipes that come with Halosign."""
RECIPE_AT_MOST_BYTES = 1_000_000
_OPTIONS = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(BaseModel):
    """What is taken from a source, and what is refused.

    Kept columns enter the digest of a case with their values, and not by their names.
    """

    model_config = _OPTIONS

    keep: tuple[str, ...] = ()
    """Columns of a table that are kept with the case, and so are published. All others are left
    out."""
    allow_burned_in_annotations: bool = False
    """Whether slices may be used whose pixels are declared to show text (Burned In Annotation)."""
    allow_overlays: bool = False
    """Whether slices with overlays may be used; overlays themselves are never read."""


NOTHING_ALLOWED = SourceSettings()
"""No column is kept, and nothing that may identify a patient is allowed."""
EVERYTHING_ALLOWED = SourceSettings(allow_burned_in_annotations=True, allow_overlays=True)
"""For where nothing that the pixels show is kept."""


class RunSettings(BaseModel):
    """How a run is executed; this does not affect what it stores."""

    model_config = _OPTIONS

    nodules_as_tasks: int = Field(5000, ge=0)
    """Most nodules of a run that are task runs in Prefect one by one; more are grouped."""
    nodules_per_task: int = Field(64, ge=1)
    """Nodules in one Prefect task run of such a larger run, which are retried together."""
    retries: int = Field(3, ge=0)
    """How often nodules that failed for a transient reason are tried again."""
    retry_delay_s: float = Field(2.0, gt=0)
    """Wait before the first retry; doubles each time."""
    failure_budget: float = Field(0.2, ge=0, le=1)
    """Share of nodules that may be refused or fail before the run stops early."""
    wait_for_workers_h: float = Field(12.0, gt=0)
    """How long a run waits while its cluster has no workers."""


class ReviewSettings(BaseModel):
    """Which question is asked of a case, and how several people's verdicts on it are joined.

    See `matting.targets` and `storage.reviews.consensus`.
    """

    model_config = _OPTIONS

    target: Target = "density"
    """The question that the automatic pick answers: density (the + forms) or opacity (the plain
    forms). It does not affect the bytes of a case."""

    rule: Literal["first", "majority", "adjudicator"] = "first"
    reviewers: int = Field(1, ge=1)
    """How many people must have reviewed a nodule before `majority` or `adjudicator` has a
    result."""
    adjudicator: str = ""
    """Name of the person who settles disputes."""

    @model_validator(mode="after")
    def _check_adjudicator(self) -> "ReviewSettings":
        if (self.rule == "adjudicator") != bool(self.adjudicator):
            raise InputError(
                "review rule and adjudicator do not fit together",
                got=f"rule {self.rule}, adjudicator {self.adjudicator or 'nobody'}",
                expected="an adjudicator's name with the rule `adjudicator`, and with no other",
                remedy="Name one, or choose another rule.",
            )
        return self


class ReleaseSettings(BaseModel):
    """How a release is split."""

    model_config = _OPTIONS

    split_seed: int = 20221011
    train: float = Field(0.7, gt=0, lt=1)
    validation: float = Field(0.1, ge=0, lt=1)
    """`train` and `validation` are shares of the patients; the rest is the test split."""


class EvaluationSettings(BaseModel):
    """How the paper's experiments are repeated on a release.

    `training` sets how its networks are trained.
    """

    model_config = _OPTIONS

    partitions: int = Field(4, ge=1)
    """Number of random divisions of the patients into splits; everything is measured once on
    each."""
    trained_partitions: int = Field(4, ge=1)
    """Number of these, the first ones, that networks are trained on."""
    variants: tuple[Variant, ...] = ("3dmm", "3dmm-m", "3dmm-mg")
    """Networks of Table 2, each with the auxiliary masks and without."""
    test_nodules: int | None = Field(None, ge=1)
    """How many nodules of a test split, chosen by a hash of their ids, a network is measured on;
    null for all."""


class Recipe(BaseModel):
    """Every setting of a data set."""

    model_config = _OPTIONS

    name: str = "paper"
    readers: int = Field(4, ge=2)
    """How many readers must have marked a nodule, exactly."""
    hu_check: bool = True
    """Refuse CT whose values cannot be HU; False accepts CT that is odd but known."""
    crop: CropSettings = CropSettings()
    resample: ResampleSettings = ResampleSettings()
    trimap: TrimapSettings = TrimapSettings()
    solver: SolverSettings = SolverSettings()
    density: DensitySettings = DensitySettings()
    closed_form: ClosedFormSettings = ClosedFormSettings()
    knn: KnnSettings = KnnSettings()
    learning_based: LearningBasedSettings = LearningBasedSettings()
    information_flow: InformationFlowSettings = InformationFlowSettings()
    prior: PriorSettings = PriorSettings()
    source: SourceSettings = Field(default_factory=SourceSettings)
    run: RunSettings = Field(default_factory=RunSettings)
    review: ReviewSettings = Field(default_factory=ReviewSettings)
    release: ReleaseSettings = Field(default_factory=ReleaseSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    diagnosis: DiagnosisSettings = Field(default_factory=DiagnosisSettings)

    @property
    def parameters(self) -> Parameters:
        """The parameters of the eight methods."""
        return Parameters(
            solver=self.solver,
            density=self.density,
            closed_form=self.closed_form,
            knn=self.knn,
            learning_based=self.learning_based,
            information_flow=self.information_flow,
            prior=self.prior,
        )

    @property
    def form(self) -> Form:
        """The form of the mattes, by the methods' parameters, the trimap and the grid."""
        return form_of(self.parameters, self.trimap, self.resample)

    def content_key(self) -> JsonObject:
        """Return the settings that determine the bytes of a case, as JSON."""
        content = self.model_dump(mode="json", exclude={"name", *OUTSIDE_CONTENT_KEY})
        # what is younger than the first digests enters them only where it is not the default
        if self.hu_check:
            del content["hu_check"]
        for name in ("uneven", "tilt"):
            if content["resample"][name] == "refuse":
                del content["resample"][name]
        return content


class _RecipeLoader(yaml.SafeLoader):
    """Reads YAML without aliases: a few lines of them can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not read", mark)
        return super().compose_node(parent, index)


def _parse_yaml(text: str) -> Any:
    loader = _RecipeLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load_recipe(path: str | Path | None = None, **overrides: Any) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file, the name of a recipe that comes with Halosign (``paper``,
            ``improved``, ``demo``, ``cpu``; a file of that name is ``./demo``), or None for the
            paper's.
        **overrides: By section, values that replace the recipe's; of a setting without a section,
            its value.

    Raises:
        InputError: The file does not exist, is not YAML, or has an unknown name or a value out of
            range.
    """
    text, origin = _recipe_text(path)
    try:
        content = _parse_yaml(text) or {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise _invalid(origin, reason, "YAML", "Correct the file at that position.") from error
    return recipe_from(content, origin, **overrides)


def parse_override(texts: Sequence[str]) -> JsonObject:
    """Parse settings such as ``trimap.dilation_mm=2`` or ``readers=3``; values are YAML.

    Returns:
        What `load_recipe` takes as overrides.

    Raises:
        InputError: One is not of that form.
    """
    found: JsonObject = {}
    for text in texts:
        name, equals, written = text.partition("=")
        path = name.strip().split(".")
        try:
            value = _parse_yaml(written)
        except (yaml.YAMLError, RecursionError, ValueError):
            equals = ""
        if not equals or not all(path) or len(path) > 2:
            raise InputError(
                "a setting cannot be parsed",
                got=repr(text),
                expected="section.key=value",
                remedy="E.g. --set trimap.dilation_mm=2 or --set readers=3; docs/recipes.md has "
                "all settings.",
            )
        if len(path) == 1:
            found[path[0]] = value
        else:
            section = found.setdefault(path[0], {})
            found[path[0]] = {**(section if isinstance(section, dict) else {}), path[1]: value}
    return found


def recipe_from(content: object, origin: str, **overrides: Any) -> Recipe:
    """Validate a recipe that was read from YAML or JSON.

    Args:
        content: What was read.
        origin: Where it was read, for messages.
        **overrides: As `load_recipe` takes them.

    Raises:
        InputError: It has an unknown name or a value out of range.
    """
    if not isinstance(content, dict):
        got = type(content).__name__
        raise _invalid(origin, got, "sections by name", "Start from recipes/paper.yaml.")
    try:
        return Recipe.model_validate(_override(content, overrides))
    except ValidationError as error:
        raise _explain(origin, error) from error


def _override(content: JsonObject, overrides: JsonObject) -> JsonObject:
    """Replace values section by section.

    What is not a section is left for the validation to reject.
    """
    result = dict(content)
    for name, values in overrides.items():
        if isinstance(values, dict):
            section = content.get(name) or {}
            result[name] = section | values if isinstance(section, dict) else section
        else:
            result[name] = values
    return result


def _recipe_text(path: str | Path | None) -> tuple[str, str]:
    name = "paper" if path is None else str(path)
    if name in SHIPPED:  # whatever lies in the current folder under that name
        return (files(recipes) / f"{name}.yaml").read_text(encoding="utf-8"), name
    try:
        if Path(name).exists() and not Path(name).is_file():
            raise _invalid(name, "no regular file", "a YAML file", "Check the path.")
        if Path(name).is_file() and Path(name).stat().st_size > RECIPE_AT_MOST_BYTES:
            raise _invalid(name, "more than 1 MB", "a recipe of a few lines", "Check the path.")
        return Path(name).read_text(encoding="utf-8"), name
    except (OSError, UnicodeDecodeError) as error:
        near = difflib.get_close_matches(name, SHIPPED, n=1)
        names = ", ".join(f"`{one}`" for one in SHIPPED[:-1])
        remedy = (
            f"Did you mean `{near[0]}`?"
            if near
            else f"Check the path, or use one that comes with Halosign: {names} or `{SHIPPED[-1]}`."
        )
        raise _invalid(name, error, "a readable YAML file", remedy) from error


def _explain(origin: str, error: ValidationError) -> InputError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    where = ".".join(path)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return InputError(
            f"the recipe {origin} cannot be used: {cause.what}",
            got=cause.got,
            expected=cause.expected,
            remedy=cause.remedy,
        )
    if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = _known_names(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(known)}."
        return _invalid(origin, f"the unknown name `{where}`", "a known name", hint)
    return _invalid(
        origin,
        f"{reprlib.repr(first['input'])} for `{where}`",
        plain_words(first["msg"]),
        "Correct that value; recipes/paper.yaml has all settings.",
    )


def _known_names(path: list[str]) -> list[str]:
    level: Any = Recipe()
    for part in path:
        level = getattr(level, part)
    kind = type(level)
    return list(kind.model_fields if isinstance(level, BaseModel) else kind.__dataclass_fields__)


def _invalid(origin: str, got: object, expected: str, remedy: str) -> InputError:
    return InputError(
        f"the recipe {origin} cannot be used", got=got, expected=expected, remedy=remedy
    )
