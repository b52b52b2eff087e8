"""Scoring: methods and networks compared with the mattes of a release, nodule by nodule.

The scores of each nodule are stored under their own key, so nothing is scored twice.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from distributed import as_completed
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.engine.cluster import LOCAL, Cluster, dask_client
from flows.engine.progress_bar import ProgressBar
from matting.learned.devices import pick_device
from storage.records import Line
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release, open_release
from storage.results.checkpoints import Checkpoint, checkpoint_prefix, read_checkpoint
from storage.results.scores import (
    ALL,
    METHOD_SCORES,
    find_summary,
    list_measured,
    list_scored_nodules,
    read_nodule_scores,
    scores_url,
    side_of,
    write_scores,
)
from storage.store import Store
from tasks.learning.load import load_network
from tasks.scoring.mattes import score_methods, trimap_priors
from tasks.scoring.network import score_network

Result = TypeVar("Result")
MIN_NODULES_FOR_CLUSTER = 32
"""For fewer nodules, starting worker processes takes longer than scoring."""


@flow(name="measure")
def measure(
    store_url: str,
    version: str,
    checkpoint: str | None = None,
    split: str = "test",
    device: str = "auto",
) -> list[Line]:
    """Score the methods and one network, or all networks that were scored before.

    Args:
        store_url: Folder or URL of the store.
        version: A published version.
        checkpoint: Digest of the network; None for all that have scores.
        split: train, validation or test.
        device: Where a network is applied, e.g. auto or cuda:1.

    Returns:
        The means over nodules, one line per matte, ground truth and region.
    """
    release = open_release(store_url, version)
    lines = measure_methods(release, split)
    measured = list_measured(release.store, version, split)
    networks = [checkpoint] if checkpoint else [name for name in measured if name != METHOD_SCORES]
    for digest in networks:
        lines = lines + measure_network(release, digest, split, device)
    create_scores_artifact(release, lines)
    return lines


@task(name="measure methods", cache_policy=NO_CACHE)
def measure_methods(release: Release, side: str, cluster: Cluster = LOCAL) -> list[Line]:
    """Score the eight methods and the baselines on a split.

    Args:
        release: The release.
        side: A split, or `ALL`.
        cluster: Where nodules are scored, if there are many.

    Returns:
        The means over nodules, read from the store where they exist.
    """
    store = release.store
    version = release.version
    known = find_summary(store, version, side, METHOD_SCORES)
    if known:
        return list(known.lines)
    reader = ReleaseReader(release)
    nodules = reader.nodules(None if side == ALL else side)
    done = list_scored_nodules(store, version, METHOD_SCORES)
    missing = [nodule for nodule in nodules if nodule not in done]
    if missing:
        score = partial(score_methods, priors=read_priors(reader))
        score_nodules(score, release, missing, cluster, "scoring methods")
    scores = read_nodule_scores(store, version, METHOD_SCORES, nodules)
    synthetic = release.manifest.synthetic
    return list(write_scores(store, version, side, METHOD_SCORES, scores, synthetic=synthetic))


def read_priors(reader: ReleaseReader) -> dict[str, float]:
    """Return the trimap prior of each nodule, with a progress bar: every matte is read."""
    with ProgressBar("reading mattes") as progress:
        return trimap_priors(reader, lambda _: progress.advance())


def score_nodules(
    score: Callable[[Release, str], Result],
    release: Release,
    nodules: Sequence[str],
    cluster: Cluster,
    title: str,
) -> list[Result]:
    """Score nodules on a cluster; a few are scored in this process.

    Args:
        score: Called with the release and a nodule.
        release: The release.
        nodules: Ids of the nodules.
        cluster: Where nodules are scored, if there are many.
        title: Of the progress bar.

    Returns:
        What the calls returned, in the order of the nodules.
    """
    with ProgressBar(title, len(nodules)) as progress:
        if len(nodules) < MIN_NODULES_FOR_CLUSTER:
            results = []
            for nodule in nodules:
                results.append(score(release, nodule))
                progress.advance()
            return results
        with dask_client(cluster) as client:
            futures = [client.submit(score, release, nodule, pure=False) for nodule in nodules]
            for future in as_completed(futures):
                future.result()
                progress.advance()
            return [future.result() for future in futures]


@task(name="measure network", cache_policy=NO_CACHE)
def measure_network(release: Release, digest: str, split: str, device: str) -> list[Line]:
    """Score a network on a split of the partition that it was trained on.

    Args:
        release: The release.
        digest: Digest of the network's checkpoint.
        split: train, validation or test.
        device: Where the network is applied.

    Returns:
        The means over nodules, read from the store where they exist.
    """
    store = release.store
    version = release.version
    checkpoint = read_checkpoint(f"{store.url}/{checkpoint_prefix(digest)}")
    partition = checkpoint.config.partition
    side = side_of(split, partition)
    known = find_summary(store, version, side, digest)
    if known:
        return list(known.lines)
    reader = ReleaseReader(release, partition)
    nodules = reader.nodules(split)
    score_missing(store, reader, checkpoint, nodules, device)
    lines = write_scores(
        store,
        version,
        side,
        digest,
        read_nodule_scores(store, version, digest, nodules),
        synthetic=release.manifest.synthetic,
        network=checkpoint.label,
        epochs=len(checkpoint.config.epochs),
    )
    return list(lines)


def score_missing(
    store: Store, reader: ReleaseReader, checkpoint: Checkpoint, nodules: Iterable[str], device: str
) -> None:
    """Score a network on the nodules that have no scores of it yet.

    Args:
        store: Where the scores are stored.
        reader: The release.
        checkpoint: The network.
        nodules: Ids of the nodules.
        device: Where the network is applied.
    """
    done = list_scored_nodules(store, reader.version, checkpoint.digest)
    missing = [nodule for nodule in nodules if nodule not in done]
    if not missing:
        return
    network = load_network(checkpoint, pick_device(device))
    with ProgressBar(f"scoring {checkpoint.label}", len(missing)) as progress:
        for nodule in missing:
            score_network(store, reader, nodule, checkpoint, network)
            progress.advance()


@task(name="create scores artifact", cache_policy=NO_CACHE)
def create_scores_artifact(release: Release, lines: list[Line]) -> None:
    """Create the table of means as an artifact in Prefect."""
    place = scores_url(release.store, release.version)
    create_table_artifact(
        table=table_rows(lines),
        key="metrics",
        description=f"Means over nodules; scores per nodule in {place}",
    )


def table_rows(lines: list[Line]) -> list[dict[str, Any]]:
    """Return one flat row per line, in the units of matting.measures.metrics."""
    return [
        {
            "matte": line.matte,
            "truth": line.truth,
            "region": line.region,
            "nodules": line.nodules,
            **line.means,
        }
        for line in lines
    ]
