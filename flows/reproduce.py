"""Reproducing: a release's recipe -> curate into a scratch store -> compare with its manifest."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.curate import curate
from flows.engine.cluster import LOCAL, Cluster
from flows.engine.prefect_server import prefect_server
from matting.errors import InputError
from storage.recipe import recipe_from
from storage.releases.release import Release
from storage.sources.registry import SourceSpec
from storage.store import open_store
from tasks.curation.context import CurationJob
from tasks.reproduce import (
    Reproduction,
    compare_with_release,
    find_unreproducible,
    keep_published_columns,
)


def reproduce(
    store_url: str,
    version: str,
    source: SourceSpec,
    to: str | None = None,
    cluster: Cluster = LOCAL,
) -> tuple[Reproduction, ...]:
    """Recompute the nodules of a release with its own recipe and compare every byte.

    Args:
        store_url: The store of the release; it is only read.
        version: The release.
        source: The scans from which it was computed.
        to: Store to compute into, which is kept; a temporary store where None.
        cluster: Where nodules are computed.

    Returns:
        One entry per nodule of the release, sorted by id.

    Raises:
        InputError: There is no such release, its recipe is invalid, or `to` is the same store.
    """
    store = open_store(store_url)
    release = Release.open(store, version)
    recipe = keep_published_columns(
        recipe_from(release.manifest.recipe, f"of release {version}"), release
    )
    unreproducible = find_unreproducible(release)
    members = [
        member for nodule_id, member in release.members.items() if nodule_id not in unreproducible
    ]
    with _scratch(to) as scratch:
        recomputed = open_store(scratch, create=True)
        if recomputed.url == store.url:
            raise InputError(
                "a release must be reproduced into another store",
                got=f"--to {to}, which contains the release",
                expected="a new store",
                remedy="Use another store, or omit --to to use a temporary one.",
            )
        if members:
            patients = frozenset(member.patient_id for member in members)
            with prefect_server():
                curate(CurationJob(source, scratch, recipe), patients, cluster)
        return tuple(compare_with_release(release, recomputed))


@contextmanager
def _scratch(to: str | None) -> Iterator[str]:
    if to is not None:
        yield to
        return
    with TemporaryDirectory(prefix="halosign-reproduce-") as folder:
        yield str(Path(folder) / "store")
