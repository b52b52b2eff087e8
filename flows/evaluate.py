"""The paper's experiments on a release: every table and figure, and the page that shows them.

Scores and trained networks are stored under their own keys and are not computed again, so the same
command resumes an interrupted evaluation. Without `train` nothing is trained: the report shows the
networks that exist and lists the missing ones.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.engine.cluster import LOCAL, Cluster
from flows.engine.console import console
from flows.engine.progress_bar import ProgressBar
from flows.score import measure_methods, score_missing, score_nodules
from flows.train import fit, fit_side_by_side
from matting.errors import InputError
from matting.learned.devices import list_devices
from qc.evaluation.build import render
from qc.evaluation.gather import gather_page
from qc.evaluation.page import Picture
from qc.evaluation.pictures import (
    NodulePrediction,
    ReleasePictures,
    choose_nodules,
    draw_predicted,
    draw_release,
)
from storage.recipe import Recipe
from storage.releases.release import Release, open_release
from storage.results.checkpoints import checkpoint_prefix, read_checkpoint
from storage.results.experiments import (
    write_facts,
    write_network_differences,
    write_report,
    write_table,
)
from storage.results.left_out import write_left_out_table
from storage.results.scores import ALL
from tasks.experiments.cost import measure_cost
from tasks.experiments.diagnosis import DiagnosisProgress, diagnose
from tasks.experiments.diagnosis_status import runs_to_do, stored_rows
from tasks.experiments.feature_diagnosis import diagnose_by_features
from tasks.experiments.left_out import nodules_to_measure, score_left_out
from tasks.experiments.left_out_table import tabulate_left_out
from tasks.experiments.network_differences import network_differences
from tasks.experiments.networks import (
    find_networks,
    missing_trainings,
    not_trained,
    open_partitions,
    table_2_variants,
)
from tasks.experiments.summary import best_network, differences, experiment_facts, nodule_tables
from tasks.experiments.summary import tabulate as tables_of
from tasks.scoring.network import predict_nodules

PARTS = ("readers", "tables", "diagnosis", "figures")


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """Which experiments to run, on which release."""

    store_url: str
    version: str
    """A published release."""
    recipe: Recipe = field(default_factory=Recipe)
    """Its sections `training`, `evaluation` and `diagnosis` are used; results are stored under its
    name."""
    device: str = "auto"
    train: bool = False
    """Train missing networks."""
    parts: tuple[str, ...] = PARTS
    cluster: Cluster = LOCAL
    """Where the methods are scored."""


@flow(name="evaluate")
def evaluate(job: EvaluationJob) -> str:
    """Repeat the paper's experiments and return the place of the report, a folder or URL."""
    seconds: dict[str, float] = {}
    missing: dict[str, str] = {}
    release = open_release(job.store_url, job.version)
    if "readers" in job.parts:
        with _timed(seconds, "left-out readers"):
            measure_left_out(job, release)
    if "tables" in job.parts:
        with _timed(seconds, "methods"):
            measure_methods(release, ALL, job.cluster)
        with _timed(seconds, "training"):
            train_networks(job, release)
        with _timed(seconds, "networks"):
            measure_networks(job, release)
        with _timed(seconds, "costs"):
            measure_costs(job, release)
    if "diagnosis" in job.parts:
        with _timed(seconds, "diagnosis"):
            missing |= diagnose_nodules(job, release)
    tabulate(job, release, seconds)
    drawn: ReleasePictures | None = None
    network: Picture | None = None
    if "figures" in job.parts:
        drawn, network = draw(job, release)
    place = report(job, release, drawn, network, missing)
    create_report_artifact(job, place)
    return place


@task(name="measure left-out readers", cache_policy=NO_CACHE)
def measure_left_out(job: EvaluationJob, release: Release) -> None:
    """Compare mattes and masks made without a reader with that reader, nodule by nodule."""
    score_nodules(
        score_left_out, release, nodules_to_measure(release), job.cluster, "leaving readers out"
    )


def train_networks(job: EvaluationJob, release: Release) -> None:
    """Train the missing networks of Table 2, if the job asks for it: one a GPU at a time."""
    if not job.train:
        return
    jobs = list(missing_trainings(release, job.recipe, job.device))
    devices = list_devices(job.device)
    if len(devices) > 1 and len(jobs) > 1:
        fit_side_by_side(jobs, devices)
        return
    for training_job in jobs:
        fit(training_job, resume=True)


@task(name="measure networks", cache_policy=NO_CACHE)
def measure_networks(job: EvaluationJob, release: Release) -> None:
    """Score the networks trained on the release, each on the test split of its own partition."""
    store = release.store
    max_nodules = job.recipe.evaluation.test_nodules
    readers = open_partitions(release, job.recipe.evaluation.partitions)
    for network in find_networks(release, job.recipe):
        for partition, digest in network.digests.items():
            reader = readers.get(partition)
            if reader:
                checkpoint = read_checkpoint(f"{store.url}/{checkpoint_prefix(digest)}")
                nodules = network.nodules(reader, max_nodules)
                score_missing(store, reader, checkpoint, nodules, job.device)


@task(name="measure costs", cache_policy=NO_CACHE)
def measure_costs(job: EvaluationJob, release: Release) -> None:
    """Measure the time and memory of each network on this machine, each in its own process."""
    store = release.store
    rows = []
    for pair in table_2_variants(job.recipe):
        with console.status(f"measuring the cost of {pair[0]}"):
            rows.append(
                measure_cost(store, job.version, *pair, job.recipe.training.crop_zyx, job.device)
            )
    write_table(store, job.version, job.recipe.name, 3, rows)


@task(name="diagnose", cache_policy=NO_CACHE)
def diagnose_nodules(job: EvaluationJob, release: Release) -> dict[str, str]:
    """Train classifiers on each input of Figure 6; return by part why that is impossible.

    Those on features take minutes; networks are trained only if the job asks for it.
    """
    with ProgressBar("diagnosing") as bar:

        def after(progress: DiagnosisProgress) -> None:
            bar.update(progress.done, total=progress.of, text=progress.what)

        try:
            diagnose_by_features(release, job.recipe.diagnosis, after)
            _keep_raters_apart(job, release, after)
            if job.train:  # last, since it takes longest
                diagnose(release, job.recipe.diagnosis, device=job.device, after=after)
        except InputError as error:
            # The data may be unsuitable for this experiment only.
            return {"diagnosis": str(error)}
    return {}


def _keep_raters_apart(
    job: EvaluationJob, release: Release, after: Callable[[DiagnosisProgress], None]
) -> None:
    """Diagnose by features with outlining readers kept apart from raters, where possible."""
    try:
        diagnose_by_features(release, job.recipe.diagnosis, after, raters_apart=True)
    except InputError as error:
        text = f"readers who outline were not kept apart from raters: {error}"
        console.print(text, markup=False)


@task(name="draw", cache_policy=NO_CACHE)
def draw(job: EvaluationJob, release: Release) -> tuple[ReleasePictures, Picture | None]:
    """Draw figures and videos of selected nodules, and the best network's predictions."""
    with console.status("drawing figures and videos"):
        drawn = draw_release(release)
        best = best_network(release, job.recipe)
        if best is None:
            return drawn, None
        label, digest = best
        ids = [choice.nodule_id for choice in choose_nodules(release, split="test")]
        made = predict_nodules(release, digest, ids, job.device)
        predicted = [
            NodulePrediction(name, one.alpha, one.union, one.overlap) for name, one in made.items()
        ]
        return drawn, draw_predicted(release, f"{label}, checkpoint {digest[:12]}", predicted)


@task(name="tables", cache_policy=NO_CACHE)
def tabulate(job: EvaluationJob, release: Release, seconds: dict[str, float]) -> None:
    """Write Tables 1 and 2 from the stored scores of single nodules, and their facts."""
    store = release.store
    name = job.recipe.name
    for number, rows in tables_of(release, job.recipe).items():
        write_table(store, job.version, name, number, rows)
    compared = network_differences(release, job.recipe)
    write_network_differences(store, job.version, name, compared)
    write_left_out_table(store, job.version, name, tabulate_left_out(release))
    facts = experiment_facts(release, job.recipe, job.device, seconds)
    write_facts(store, job.version, name, facts)


@task(name="report", cache_policy=NO_CACHE)
def report(
    job: EvaluationJob,
    release: Release,
    drawn: ReleasePictures | None,
    network: Picture | None,
    missing: dict[str, str],
) -> str:
    """Render the report from the stored results, and return the place where it is written."""
    recipe = job.recipe
    rows, differences_6 = stored_rows(release, recipe.diagnosis)
    untrained = not_trained(release, recipe)
    unfinished = {"diagnosis": runs_to_do(rows, recipe.diagnosis)}
    if untrained:
        names = ", ".join(untrained)
        unfinished["table_2"] = f"not trained: {names}. `halosign evaluate --train` trains them."
    page = gather_page(
        release,
        recipe.name,
        diagnosis=rows,
        diagnosis_differences=differences_6,
        drawn=drawn,
        network=network,
        missing=missing,
        unfinished={part: text for part, text in unfinished.items() if text},
        attachments=nodule_tables(release, recipe),
    )
    return write_report(release.store, job.version, recipe.name, render(page))


@task(name="create report artifact", cache_policy=NO_CACHE)
def create_report_artifact(job: EvaluationJob, place: str) -> None:
    """Create an artifact in Prefect that says where the report is."""
    reduced = " In a **reduced** setting." if differences(job.recipe) else ""
    release = f"release **{job.version}** of `{job.store_url}`"
    create_markdown_artifact(
        markdown=f"The paper's experiments on {release}: `{place}/report.html`.{reduced}",
        key="experiments",
        description="The paper's experiments",
    )


def check_parts(parts: tuple[str, ...]) -> None:
    """Raise InputError where a part is unknown or none is selected."""
    if not parts or not set(parts) <= set(PARTS):
        raise InputError(
            "unknown part of the experiments",
            got=",".join(parts) or "none",
            expected=",".join(PARTS),
            remedy="Use one or more of these, or omit --parts to run all.",
        )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of a block to `seconds`, under a name."""
    begin = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - begin, 1)
