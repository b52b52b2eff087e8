"""The paper's experiments on a release: every table and figure, and the page that shows them.

What was measured or trained once lies in the store under its own key and is not done again, so the same command goes on
wherever it was stopped. Without `train` nothing is trained: what was trained before is shown, the rest is listed as
missing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from flows.cli.printing import console
from flows.engine.cluster import LOCAL, Cluster
from flows.score import measure_methods, score_missing
from flows.train import fit
from matting.errors import InputError
from qc.evaluation.build import render
from qc.evaluation.gather import gather_page
from qc.evaluation.page import Picture
from qc.evaluation.pictures import Drawn, Predicted, choose_nodules, draw_predicted, draw_release
from storage.recipe import Recipe
from storage.results.checkpoints import checkpoint_prefix, read_checkpoint
from storage.results.experiments import save_facts, save_report, save_table
from storage.results.scores import ALL
from storage.store import open_store
from tasks.experiments.cost import measure_cost
from tasks.experiments.diagnosis import DiagnosisProgress, diagnose
from tasks.experiments.diagnosis_status import runs_to_do, stored_rows
from tasks.experiments.networks import (
    find_networks,
    not_trained,
    table_2_variants,
    open_partitions,
    equivalent_network,
    trainings,
)
from tasks.experiments.summary import best_network, differences, experiment_facts, nodule_tables
from tasks.experiments.summary import tabulate as tables_of
from tasks.scoring.network import predict_nodules

PARTS = ("tables", "diagnosis", "figures")


@dataclass(frozen=True, slots=True)
class Experiments:
    """What to try, on what."""

    store_url: str
    version: str
    """A published release."""
    recipe: Recipe = field(default_factory=Recipe)
    """Its sections `training`, `evaluation` and `diagnosis` count; its name is where the results go."""
    device: str = "auto"
    train: bool = False
    """Train what is missing."""
    parts: tuple[str, ...] = PARTS
    cluster: Cluster = LOCAL
    """Where the methods are measured."""


@flow(name="evaluate")
def evaluate(asked: Experiments) -> str:
    """Repeat the paper's experiments; gives where the report lies."""
    seconds: dict[str, float] = {}
    missing: dict[str, str] = {}
    if "tables" in asked.parts:
        with _timed(seconds, "methods"):
            measure_methods(asked.store_url, asked.version, ALL, asked.cluster)
        with _timed(seconds, "training"):
            train_networks(asked)
        with _timed(seconds, "networks"):
            measure_networks(asked)
        with _timed(seconds, "costs"):
            measure_costs(asked)
    if "diagnosis" in asked.parts and asked.train:
        with _timed(seconds, "diagnosis"):
            missing |= diagnose_nodules(asked)
    tabulate(asked, seconds)
    drawn, network = draw(asked) if "figures" in asked.parts else (None, None)
    return attach(asked, report(asked, drawn, network, missing))


def train_networks(asked: Experiments) -> None:
    """Train the networks of Table 2 that are missing, if that is wanted."""
    for order in (
        trainings(asked.store_url, asked.version, asked.recipe, asked.device) if asked.train else ()
    ):
        fit(order, resume=True)


@task(name="measure networks", cache_policy=NO_CACHE)
def measure_networks(asked: Experiments) -> None:
    """Score all networks that were trained on the release, each on the test split of its own partition."""
    store, at_most = open_store(asked.store_url), asked.recipe.evaluation.test_nodules
    readers = open_partitions(asked.store_url, asked.version, asked.recipe.evaluation.partitions)
    for network in find_networks(store, asked.version, asked.recipe):
        for partition, digest in network.digests.items():
            reader = readers.get(partition)
            if reader:
                checkpoint = read_checkpoint(f"{store.url}/{checkpoint_prefix(digest)}")
                score_missing(
                    store, reader, checkpoint, network.nodules(reader, at_most), asked.device
                )


@task(name="measure costs", cache_policy=NO_CACHE)
def measure_costs(asked: Experiments) -> None:
    """Measure what each network costs on this machine, each in a process of its own."""
    store = open_store(asked.store_url)
    costs = {}
    for pair in dict.fromkeys(equivalent_network(*pair) for pair in table_2_variants(asked.recipe)):
        with console.status(f"measuring what {pair[0]} costs"):
            costs[pair] = measure_cost(
                store, asked.version, *pair, asked.recipe.training.crop_zyx, asked.device
            )
    rows = [replace(costs[equivalent_network(*pair)], variant=pair[0]) for pair in table_2_variants(asked.recipe)]
    save_table(store, asked.version, asked.recipe.name, 3, rows)


@task(name="diagnose", cache_policy=NO_CACHE)
def diagnose_nodules(asked: Experiments) -> dict[str, str]:
    """Train classifiers on each input of Figure 6; gives why that cannot be done, if so."""
    columns = (
        TextColumn("{task.fields[what]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("diagnosing", total=None, what="")

        def after(progress: DiagnosisProgress) -> None:
            bars.update(bar, completed=progress.done, total=progress.of, what=progress.what)

        try:
            diagnose(
                asked.store_url,
                asked.version,
                asked.recipe.diagnosis,
                device=asked.device,
                after=after,
            )
        except InputError as refusal:
            # The data may not be fit for this one experiment; the others stand.
            return {"diagnosis": str(refusal)}
    return {}


@task(name="draw", cache_policy=NO_CACHE)
def draw(asked: Experiments) -> tuple[Drawn, Picture | None]:
    """Draw the figures and videos of chosen nodules, and what the best network makes of some that it did not learn."""
    store, version = open_store(asked.store_url), asked.version
    with console.status("drawing figures and videos"):
        drawn, best = draw_release(store, version), best_network(store, version, asked.recipe)
        if best is None:
            return drawn, None
        label, digest = best
        ids = [choice.nodule_id for choice in choose_nodules(store, version, split="test")]
        made = predict_nodules(store, version, digest, ids, asked.device)
        predicted = [
            Predicted(name, one.alpha, one.union, one.overlap) for name, one in made.items()
        ]
        return drawn, draw_predicted(
            store, version, f"{label}, checkpoint {digest[:12]}", predicted
        )


@task(name="tables", cache_policy=NO_CACHE)
def tabulate(asked: Experiments, seconds: dict[str, float]) -> None:
    """Make Tables 1 and 2 from the stored scores of single nodules, and note what they stand on."""
    store, name = open_store(asked.store_url), asked.recipe.name
    for number, rows in tables_of(store, asked.version, asked.recipe).items():
        save_table(store, asked.version, name, number, rows)
    save_facts(
        store,
        asked.version,
        name,
        experiment_facts(store, asked.version, asked.recipe, asked.device, seconds),
    )


@task(name="report", cache_policy=NO_CACHE)
def report(
    asked: Experiments, drawn: Drawn | None, network: Picture | None, missing: dict[str, str]
) -> str:
    """Make the page and the files beside it from what is stored; gives where they lie."""
    store, version, recipe = open_store(asked.store_url), asked.version, asked.recipe
    rows, untrained = (
        stored_rows(asked.store_url, version, recipe.diagnosis),
        not_trained(store, version, recipe),
    )
    to_do = {
        "table_2": f"not trained: {', '.join(untrained)}. `halosign evaluate --train` trains them."
        if untrained
        else "",
        "diagnosis": runs_to_do(rows, recipe.diagnosis),
    }
    page = gather_page(
        store,
        version,
        recipe.name,
        diagnosis=rows,
        drawn=drawn,
        network=network,
        missing=missing,
        unfinished={part: words for part, words in to_do.items() if words},
        attachments=nodule_tables(store, version, recipe),
    )
    return save_report(store, version, recipe.name, render(page))


@task(name="attach", cache_policy=NO_CACHE)
def attach(asked: Experiments, place: str) -> str:
    """Leave word of the report where Prefect's users look."""
    reduced = " In a **reduced** setting." if differences(asked.recipe) else ""
    where = f"release **{asked.version}** of `{asked.store_url}`"
    text = f"The paper's experiments on {where}: `{place}/report.html`.{reduced}"
    create_markdown_artifact(
        markdown=text, key="experiments", description="The paper's experiments"
    )
    return place


def check_parts(parts: tuple[str, ...]) -> None:
    """Refuse parts that there are not."""
    if not parts or not set(parts) <= set(PARTS):
        raise InputError(
            "there is no such part of the experiments",
            got=",".join(parts) or "none",
            expected=",".join(PARTS),
            remedy="Name one or more of these, or leave --parts out for all.",
        )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - begin, 1)
