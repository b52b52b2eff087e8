"""The page of the paper's experiments from what the store holds: tables, facts, runs of Figure 6, pictures, a study."""

from collections.abc import Sequence
from typing import Any

from qc.diagnosis_figure import BACKBONES, draw_diagnosis
from qc.evaluation_page import DataFacts, EvaluationPage, Picture, Setting
from storage.diagnoses import DiagnosisRow
from storage.experiments import read_costs, read_facts, read_table
from storage.recipe import Recipe
from storage.scores import ALL, METHODS, Score, nodules_scored, read_csv, read_nodules
from storage.store import Store
from storage.tabular import to_csv
from tasks.diagnosed import stored_rows
from tasks.networks import find_networks

NOT_TRAINED = "not trained: run the same command with --train"


def make_page(
    store: Store, version: str, recipe: Recipe, pictures: dict[str, Any], missing: dict[str, str]
) -> EvaluationPage:
    """Gather the page.

    Args:
        store: Where everything lies.
        version: The release.
        recipe: By which it was tried.
        pictures: Fields of the page that were drawn.
        missing: Why others were not.
    """
    facts = read_facts(store, version, recipe.name)
    reduced, stand_in = bool(facts["differences"]), int(facts["stand_in"])
    table_1, table_2 = (tuple(read_table(store, version, recipe.name, number)) for number in (1, 2))
    rows = tuple(stored_rows(store.url, version, recipe.diagnosis))
    if not table_2:
        missing = {"table_2": NOT_TRAINED} | missing
    if not rows:
        missing = {"diagnosis": NOT_TRAINED} | missing
    return EvaluationPage(
        title=f"The paper's experiments on release {version}",
        data=DataFacts(
            release=version,
            manifest_sha256=facts["manifest_sha256"],
            recipe=facts["release_recipe"],
            nodules=facts["nodules"],
            patients=facts["patients"],
            stand_in=stand_in,
            splits=facts["splits"],
        ),
        reduced=reduced,
        settings=tuple(Setting(*difference) for difference in facts["differences"]),
        provenance=_provenance(facts),
        table_1=table_1,
        table_2=table_2,
        table_3=tuple(read_costs(store, version, recipe.name)),
        diagnosis=rows,
        diagnosis_figure=_diagnosis_figure(rows, stand_in=stand_in > 0, reduced=reduced),
        **pictures,
        missing=missing,
        attachments=_attachments(store, version, recipe, rows),
    )


def _provenance(facts: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    code = facts["code"]
    return (
        ("release manifest, SHA-256", facts["manifest_sha256"]),
        ("recipe of the experiments", facts["recipe"]["name"]),
        ("Halosign", f"{code['halosign']}, commit {code['commit'] or 'unknown'}"),
        ("PyTorch", code["torch"]),
        ("computed on", facts["device"]),
        (
            "seconds of the last run",
            ", ".join(f"{name} {took:g}" for name, took in facts["seconds_of_this_run"].items()),
        ),
    )


def _diagnosis_figure(rows: Sequence[DiagnosisRow], *, stand_in: bool, reduced: bool) -> Picture | None:
    if not any(row.backbone in BACKBONES for row in rows):
        return None
    return Picture(
        file="pictures/figure-6.png",
        data=draw_diagnosis(rows, stand_in=stand_in, note="reduced setting" if reduced else ""),
        alt="Areas under the ROC curve by input, one panel a backbone; diagnosis.csv holds the same numbers.",
        caption="Figure 6. Benign or malignant, told from each input alone: the mean over seeds with its 95 % "
        "interval, every seed as a dot; the dashed line is the nodule's volume alone, with no network.",
    )


def _attachments(store: Store, version: str, recipe: Recipe, rows: Sequence[DiagnosisRow]) -> dict[str, bytes]:
    """Give the scores of every nodule, of methods and networks, and what Figure 6 shows."""
    found = {"nodules/methods.csv": read_csv(store, version, ALL, METHODS)}
    for network in find_networks(store, version, recipe):
        for partition, digest in network.digests.items():
            nodules = sorted(nodules_scored(store, version, digest))
            name = f"{network.label}, partition {partition}".replace(" ", "-").replace("(", "").replace(")", "")
            found[f"nodules/{name.replace(',', '')}.csv"] = to_csv(Score, read_nodules(store, version, digest, nodules))
    return found | ({"diagnosis.csv": to_csv(DiagnosisRow, rows)} if rows else {})
