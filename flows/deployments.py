"""The flows that prefect.yaml deploys, with parameters that are plain JSON."""

import os

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed

from flows.curate import curate as curate_store
from flows.engine.cluster import Cluster
from flows.engine.errors import RunAborted, SchedulerLostError
from flows.engine.logs import FORMAT_VARIABLE, log_json
from flows.evaluate import PARTS, EvaluationJob, check_parts
from flows.evaluate import evaluate as evaluate_release
from flows.publish import publish as publish_release
from flows.train import train as train_network
from matting.parameters import Auxiliary
from storage.errors import CorruptionError
from storage.recipe import load_recipe
from storage.releases.release import Release
from storage.releases.verify import verify_release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob

RETRIES, RETRY_DELAY_S = 5, 20
"""A Dask scheduler that was restarted is back, with its workers, within seconds or minutes."""

MOST_STARTS = 10
"""Of one run, its retries included. A crashed run begins again by itself (flows/crashed_runs.py),
and one that always crashes, for want of memory for example, would do so for ever."""


def _check_starts() -> None:
    """Raise RunAborted where this run was begun too often; the flow then fails, and is left so."""
    if flow_run.run_count > MOST_STARTS:
        raise RunAborted(
            f"the run was begun {MOST_STARTS} times and never ended: what was stored is kept. "
            "See the logs of its worker, which may lack memory; then begin a new run."
        )


@flow(name="curate", retries=RETRIES, retry_delay_seconds=RETRY_DELAY_S)
def curate(
    store: str,
    dicom: str | None = None,
    files: str | None = None,
    recipe: str = "paper",
    patients: list[str] | None = None,
    scheduler: str | None = None,
    pseudonymize: str | None = None,
    xml: str | None = None,
) -> State[None]:
    """Bring a store up to date with its source: compute what is missing, keep what is done.

    Args:
        store: Folder or URL of the store.
        dicom: Folder with LIDC-IDRI-xxxx folders of DICOM, at the same path on every worker; this
            or `files`.
        files: CSV table of volumes and readers' masks.
        recipe: YAML file, or `paper` or `demo`.
        patients: Only these; all where None.
        scheduler: Dask scheduler, e.g. tcp://host:8786; a local cluster where None.
        pseudonymize: File with the key of the pseudonyms that replace a table's ids; it must exist.
        xml: Folder of LIDC-IDRI's XML files, which name the reader of each annotation.
    """
    _check_starts()
    if os.environ.get(FORMAT_VARIABLE) == "json":
        log_json()
    source = (
        SourceSpec("lidc", dicom, xml=xml or "")
        if dicom
        else SourceSpec("files", files or "", pseudonymize or "")
    )
    job = CurationJob(source, store, load_recipe(recipe))
    # The flow function is called directly, so that Prefect shows one run, not a run with a subflow.
    result = curate_store.fn(job, frozenset(patients) if patients else None, Cluster(scheduler))
    if scheduler and isinstance(result.error, SchedulerLostError):
        # Its supervisor starts it again, so Prefect's retries of this flow go on.
        raise result.error
    if result.aborted:
        # Not failed: Prefect would retry it, and it would fail again for the same reasons.
        return Cancelled(name="Stopped", message=result.aborted)
    if not result.is_clean:
        return Completed(
            name="Incomplete",
            message="Some nodules have invalid input or failed: `halosign status` lists them.",
        )
    return Completed()


@flow(name="publish")
def publish(version: str, store: str, recipe: str = "paper", publisher: str = "prefect") -> int:
    """Publish the cases with a verdict as an immutable version; return its number of nodules."""
    return len(publish_release.fn(store, version, load_recipe(recipe), publisher).members)


@flow(name="train")
def train(
    version: str,
    store: str,
    variant: str = "3dmm-mg",
    auxiliary: Auxiliary = "told",
    recipe: str = "paper",
    device: str = "auto",
    epochs: int | None = None,
) -> str:
    """Train a network on a release, score it, and return its digest; a second run resumes.

    Args:
        version: A published version with a train and a test split.
        store: Folder or URL of the store.
        variant: 3dmm, 3dmm-m or 3dmm-mg.
        auxiliary: told, untold or none: what becomes of the auxiliary masks.
        recipe: YAML file, or `paper` or `demo`; its section `training` is used.
        device: auto (the GPU, if there is one), cpu, cuda or cuda:1.
        epochs: Number of epochs, in place of the recipe's.
    """
    _check_starts()
    settings = {"training": {"epochs": epochs}} if epochs else {}
    return train_network.fn(store, version, variant, auxiliary, recipe, device, settings)


@flow(name="evaluate")
def evaluate(
    version: str,
    store: str,
    recipe: str = "paper",
    device: str = "auto",
    train: bool = False,
    parts: list[str] | None = None,
    scheduler: str | None = None,
) -> str:
    """Repeat the paper's experiments and return the place of the report; a second run resumes.

    Args:
        version: A published version.
        store: Folder or URL of the store.
        recipe: YAML file, or `paper` or `cpu`; its sections `training`, `evaluation` and
            `diagnosis` are used.
        device: auto (the GPU, if there is one), cpu, cuda or cuda:1.
        train: Train missing networks; without it they are listed as missing.
        parts: Some of tables, diagnosis and figures; all where None.
        scheduler: Dask scheduler, e.g. tcp://host:8786; a local cluster where None.
    """
    _check_starts()
    selected = tuple(parts or PARTS)
    check_parts(selected)
    job = EvaluationJob(
        store, version, load_recipe(recipe), device, train, selected, Cluster(scheduler)
    )
    return evaluate_release.fn(job)


@flow(name="verify")
def verify(version: str, store: str) -> int:
    """Verify a release, return the number of its cases' files; raises CorruptionError."""
    _check_starts()
    opened = open_store(store)
    complaints = verify_release(opened, version)
    if complaints:
        raise CorruptionError(
            f"{version}: {len(complaints)} files differ from what was published, or contradict: "
            + "; ".join(complaints[:10])
        )
    return len(Release.open(opened, version).manifest.case_files)
