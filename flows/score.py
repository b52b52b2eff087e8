"""Measuring: the mattes of a release -> how far the methods and the networks are from them, nodule by nodule.

The scores of a nodule are a key of their own, so what was measured once is never measured again, whatever asks for it.
"""

from collections.abc import Iterable
from typing import Any

from distributed import as_completed
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from rich.progress import Progress

from flows.cli.printing import console
from flows.engine.cluster import LOCAL, Cluster, dask_client
from matting.learned.training import pick_device
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
from storage.store import Store, open_store
from tasks.scoring.mattes import score_methods, trimap_prior
from tasks.scoring.network import load_network, score_network

WORTH_A_CLUSTER = 32
"""Nodules for fewer of which starting processes takes longer than the work."""


@flow(name="measure")
def measure(
    store_url: str,
    version: str,
    checkpoint: str | None = None,
    split: str = "test",
    device: str = "auto",
) -> list[Line]:
    """Measure the methods and one network, or all that were measured before; gives the table's lines."""
    release = open_release(store_url, version)
    lines = measure_methods(release, split)
    known = list_measured(release.store, version, split)
    networks = [checkpoint] if checkpoint else [name for name in known if name != METHOD_SCORES]
    for digest in networks:
        lines = lines + measure_network(release, digest, split, device)
    attach_scores(store_url, version, lines)
    return lines


@task(name="measure methods", cache_policy=NO_CACHE)
def measure_methods(release: Release, side: str, cluster: Cluster = LOCAL) -> list[Line]:
    """Score the eight methods and the trivial mattes on a split, or on all nodules; once a release."""
    store, version = release.store, release.version
    known = find_summary(store, version, side, METHOD_SCORES)
    if known:
        return list(known.lines)
    reader = ReleaseReader(release)
    nodules = reader.nodules(None if side == ALL else side)
    done = list_scored_nodules(store, version, METHOD_SCORES)
    missing = [nodule for nodule in nodules if nodule not in done]
    if missing:
        _score_methods(release, missing, _prior(reader), cluster)
    scores = read_nodule_scores(store, version, METHOD_SCORES, nodules)
    synthetic = release.manifest.synthetic
    return list(write_scores(store, version, side, METHOD_SCORES, scores, synthetic=synthetic))


def _prior(reader: ReleaseReader) -> float:
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("reading mattes", total=None)
        return trimap_prior(reader, lambda _: progress.advance(bar))


def _score_methods(release: Release, nodules: list[str], prior: float, cluster: Cluster) -> None:
    """Score nodules on the cluster; a few are done here and now."""
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("measuring methods", total=len(nodules))
        if len(nodules) < WORTH_A_CLUSTER:
            for nodule in nodules:
                score_methods(release, nodule, prior)
                progress.advance(bar)
            return
        with dask_client(cluster) as client:
            under_way = [
                client.submit(score_methods, release, nodule, prior, pure=False)
                for nodule in nodules
            ]
            for future in as_completed(under_way):
                future.result()
                progress.advance(bar)


@task(name="measure network", cache_policy=NO_CACHE)
def measure_network(release: Release, digest: str, split: str, device: str) -> list[Line]:
    """Score a network on a split of the partition that it was trained on; once a release."""
    store, version = release.store, release.version
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
    """Score a network on those nodules on which it was not scored yet."""
    done = list_scored_nodules(store, reader.version, checkpoint.digest)
    missing = [nodule for nodule in nodules if nodule not in done]
    if not missing:
        return
    network = load_network(checkpoint, pick_device(device))
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"measuring {checkpoint.label}", total=len(missing))
        for nodule in missing:
            score_network(store, reader, nodule, checkpoint, network)
            progress.advance(bar)


@task(name="attach", cache_policy=NO_CACHE)
def attach_scores(store_url: str, version: str, lines: list[Line]) -> None:
    """Leave the table where Prefect's users look."""
    place = scores_url(open_store(store_url), version)
    create_table_artifact(
        table=table_rows(lines), key="metrics", description=f"Means over nodules; all in {place}"
    )


def table_rows(lines: list[Line]) -> list[dict[str, Any]]:
    """Give one flat row for each line, in the raw units of matting.measures.metrics."""
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
