"""What Prefect runs where nobody sits at a keyboard: the flows of prefect.yaml, with parameters that are plain JSON."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from flows.curate import curate as curate_store
from flows.engine.cluster import Cluster
from flows.evaluate import PARTS, Experiments, check_parts
from flows.evaluate import evaluate as evaluate_release
from flows.publish import publish as publish_release
from flows.train import train as train_network
from storage.errors import CorruptionError
from storage.recipe import load_recipe
from storage.releases.release import Release, verify_release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob


@flow(name="curate", task_runner=curate_store.task_runner, retries=2, retry_delay_seconds=60)
def curate(
    store: str,
    dicom: str | None = None,
    files: str | None = None,
    recipe: str = "paper",
    patients: list[str] | None = None,
    scheduler: str | None = None,
) -> State[None]:
    """Bring a store up to date with its source: compute what is missing, keep what is done.

    Args:
        store: Folder or URL of the store.
        dicom: Folder that holds LIDC-IDRI-xxxx folders of DICOM, the same on every worker; or
        files: CSV table of volumes and readers' masks.
        recipe: YAML file, or `paper` or `demo`.
        patients: Only these.
        scheduler: Dask scheduler, e.g. tcp://host:8786; a local cluster when left out.
    """
    source = SourceSpec("lidc", dicom) if dicom else SourceSpec("files", files or "")
    order = CurationJob(source, store, load_recipe(recipe))
    # The flow itself, not a run of it below this one: one run on the page, with one set of tasks and artifacts.
    result = curate_store.fn(order, frozenset(patients) if patients else None, Cluster(scheduler))
    if result.stopped:
        # Not failed: that would be tried again, and fail again for the same reasons
        return Cancelled(name="Stopped", message=result.stopped)
    if not result.is_clean:
        return Completed(
            name="Incomplete",
            message="Some nodules are refused or failed: `halosign status` says which.",
        )
    return Completed()


@flow(name="publish")
def publish(version: str, store: str, recipe: str = "paper", publisher: str = "prefect") -> int:
    """Publish the decided cases of a store as an immutable version; gives its count of nodules."""
    return len(publish_release.fn(store, version, load_recipe(recipe), publisher).members)


@flow(name="train")
def train(
    version: str,
    store: str,
    variant: str = "3dmm-mg",
    auxiliary: bool = True,
    recipe: str = "paper",
    device: str = "auto",
    epochs: int | None = None,
) -> str:
    """Train a network on a release and attach its metrics; gives the checkpoint's digest. Run again, it goes on.

    Args:
        version: A published version with a train and a test split.
        store: Folder or URL of the store.
        variant: 3dmm, 3dmm-m or 3dmm-mg.
        auxiliary: With the auxiliary masks or without.
        recipe: YAML file, or `paper` or `demo`; its section `training` counts.
        device: auto (the GPU where there is one), cpu, cuda, cuda:1.
        epochs: In place of the recipe's.
    """
    return train_network.fn(store, version, variant, auxiliary, recipe, device, epochs)


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
    """Repeat the paper's experiments on a release; gives where the report lies. Run again, it goes on.

    Args:
        version: A published version.
        store: Folder or URL of the store.
        recipe: YAML file, or `paper` or `reduced`; its sections training, evaluation and diagnosis count.
        device: auto (the GPU where there is one), cpu, cuda, cuda:1.
        train: Train what is missing; else it is listed as such.
        parts: Some of tables, diagnosis and figures; all when left out.
        scheduler: Dask scheduler, e.g. tcp://host:8786; a local cluster when left out.
    """
    wanted = tuple(parts or PARTS)
    check_parts(wanted)
    asked = Experiments(
        store, version, load_recipe(recipe), device, train, wanted, Cluster(scheduler)
    )
    return evaluate_release.fn(asked)


@flow(name="verify")
def verify(version: str, store: str) -> int:
    """Compare every file of a release with its SHA-256; gives their count, raises CorruptionError where one differs."""
    opened = open_store(store)
    complaints = verify_release(opened, version)
    if complaints:
        raise CorruptionError(
            f"{version}: {len(complaints)} files are not as published: {'; '.join(complaints[:10])}"
        )
    return len(Release.open(opened, version).manifest.case_files)
