"""Measuring: the mattes of a release -> how far the methods and the networks are from them."""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from rich.progress import Progress

from flows.console import console
from storage.checkpoints import checkpoint_prefix, read_checkpoint
from storage.reader import ReleaseReader
from storage.scores import METHODS, Line, read_summary, scored, scores_place, write_scores
from storage.store import open_store
from tasks.evaluate import score_methods, score_network


@flow(name="evaluate")
def evaluate(
    store_url: str, version: str, checkpoint: str | None = None, split: str = "test", device: str = "auto"
) -> list[Line]:
    """Measure the methods and one network, or all that were measured before; gives the table's lines."""
    lines = measure_methods(store_url, version, split)
    store = open_store(store_url)
    networks = [checkpoint] if checkpoint else [name for name in scored(store, version, split) if name != METHODS]
    for digest in networks:
        lines = lines + measure_network(store_url, version, digest, split, device)
    attach(store_url, version, lines)
    return lines


@task(name="measure methods", cache_policy=NO_CACHE)
def measure_methods(store_url: str, version: str, split: str) -> list[Line]:
    """Score the eight methods and the trivial mattes, once a release."""
    store = open_store(store_url)
    known = read_summary(store, version, split, METHODS)
    if known:
        return list(known["lines"])
    reader = ReleaseReader(store_url, version)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"measuring methods, {split}", total=len(reader.nodules(split)))
        scores = score_methods(reader, split, lambda _: progress.advance(bar))
    return write_scores(store, version, split, METHODS, scores, _facts(reader))


@task(name="measure network", cache_policy=NO_CACHE)
def measure_network(store_url: str, version: str, digest: str, split: str, device: str) -> list[Line]:
    """Score a network, once a release."""
    store = open_store(store_url)
    known = read_summary(store, version, split, digest)
    if known:
        return list(known["lines"])
    reader = ReleaseReader(store_url, version)
    checkpoint = read_checkpoint(f"{store.url}/{checkpoint_prefix(digest)}")
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"measuring {checkpoint.label}, {split}", total=len(reader.nodules(split)))
        scores = score_network(reader, split, checkpoint, device, lambda _: progress.advance(bar))
    facts = _facts(reader) | {"network": checkpoint.label, "epochs": len(checkpoint.config["epochs"])}
    return write_scores(store, version, split, digest, scores, facts)


@task(name="attach", cache_policy=NO_CACHE)
def attach(store_url: str, version: str, lines: list[Line]) -> None:
    """Leave the table where Prefect's users look."""
    place = scores_place(open_store(store_url), version)
    create_table_artifact(table=table_rows(lines), key="metrics", description=f"Means over nodules; all in {place}")


def table_rows(lines: list[Line]) -> list[dict[str, Any]]:
    """Give one flat row for each line, in the raw units of matting.metrics."""
    return [
        {"matte": line.matte, "truth": line.truth, "region": line.region, "nodules": line.nodules, **line.means}
        for line in lines
    ]


def _facts(reader: ReleaseReader) -> dict[str, Any]:
    return {"stand_in": bool(reader.manifest["stand_in"])}
