"""Read what the store holds of a release's experiments into the page that shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from qc.evaluation.diagnosis import draw_diagnosis
from qc.evaluation.left_out import draw_left_out
from qc.evaluation.page import DataFacts, EvaluationPage, Picture, Setting
from qc.evaluation.pictures import ReleasePictures, find_study
from storage.errors import NotFoundError
from storage.records import ExperimentFacts
from storage.releases.release import Release
from storage.results.diagnoses import DiagnosisDifference, DiagnosisRow
from storage.results.experiments import (
    facts_key,
    read_costs,
    read_facts,
    read_network_differences,
    read_table,
)
from storage.results.left_out import read_left_out_table

FACTS = "facts.json"


def gather_page(
    release: Release,
    recipe: str,
    *,
    diagnosis: Sequence[DiagnosisRow] = (),
    diagnosis_differences: Sequence[DiagnosisDifference] = (),
    drawn: ReleasePictures | None = None,
    network: Picture | None = None,
    missing: Mapping[str, str] | None = None,
    unfinished: Mapping[str, str] | None = None,
    attachments: Mapping[str, bytes] | None = None,
) -> EvaluationPage:
    """Return the page of the experiments on a release; what is not stored is listed as missing.

    Args:
        release: The release; its store holds the experiments.
        recipe: Name of the recipe of the experiments.
        diagnosis: The rows of Figure 6.
        diagnosis_differences: Differences between the families of its inputs.
        drawn: Figures 1 and 7 and the videos.
        network: Figure 8.
        missing: Why a part is missing, by its name, where that is known.
        unfinished: What remains to be done for a part that is there, by its name.
        attachments: Further files to put beside the page, by name.

    Raises:
        NotFoundError: The facts of the experiments are not stored yet.
    """
    store = release.store
    version = release.version
    facts = read_facts(store, version, recipe)
    settings = tuple(Setting(*row) for row in facts.differences)
    synthetic = facts.synthetic
    left_out = _rows(read_left_out_table, store, version, recipe)
    kind = "synthetic CT" if synthetic else "real CT"
    return EvaluationPage(
        title=f"The paper's experiments on release {version} ({kind})",
        data=DataFacts(
            release=version,
            manifest_sha256=facts.manifest_sha256,
            recipe=facts.release_recipe,
            nodules=facts.nodules,
            patients=facts.patients,
            synthetic=synthetic,
            form=release.manifest.form_name,
            splits=facts.splits,
        ),
        reduced=bool(settings),
        settings=settings,
        provenance=_provenance(facts, recipe),
        left_out=left_out,
        left_out_figure=draw_left_out(left_out, synthetic=bool(synthetic)),
        table_1=_rows(read_table, store, version, recipe, 1),
        table_2=_rows(read_table, store, version, recipe, 2),
        network_differences=_rows(read_network_differences, store, version, recipe),
        table_3=_rows(read_costs, store, version, recipe),
        diagnosis=tuple(diagnosis),
        diagnosis_differences=tuple(diagnosis_differences),
        diagnosis_figure=_diagnosis_figure(diagnosis, bool(synthetic)),
        readers=drawn.readers if drawn else (),
        methods=drawn.methods if drawn else None,
        network=network,
        videos=drawn.videos if drawn else (),
        study=find_study(store, version),
        missing=missing or {},
        unfinished=unfinished or {},
        attachments={FACTS: store.get(facts_key(version, recipe)), **(attachments or {})},
    )


def _rows(read: Any, *where: Any) -> tuple[Any, ...]:
    try:
        return tuple(read(*where))
    except NotFoundError:
        return ()


def _provenance(facts: ExperimentFacts, recipe: str) -> tuple[tuple[str, str], ...]:
    code = {name: "unknown" if value is None else value for name, value in facts.code.items()}
    seconds = {
        f"seconds of the last run, {name}": str(value) for name, value in facts.seconds.items()
    }
    where = ("computed on", facts.device)
    return (("recipe of the experiments", recipe), *code.items(), where, *seconds.items())


def _diagnosis_figure(rows: Sequence[DiagnosisRow], synthetic: bool) -> Picture | None:
    if not rows:
        return None
    inputs = ", ".join(dict.fromkeys(row.input for row in rows))
    return Picture(
        file="pictures/figure-6.png",
        data=draw_diagnosis(rows, synthetic=synthetic),
        alt=f"Area under the ROC curve with intervals for each input: {inputs}. The values are in"
        " the table below.",
        caption="Large markers: means over seeds with 95 % confidence intervals; dots: single"
        " seeds; dashed line: nodule volume alone.",
    )
