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
from tasks.reproduce import Reproduction, compare_with_release, out_of_reach


def reproduce(
    store_url: str,
    version: str,
    source: SourceSpec,
    to: str | None = None,
    cluster: Cluster = LOCAL,
) -> tuple[Reproduction, ...]:
    """Compute a release's nodules anew, with its own recipe, and compare them with what was published.

    Args:
        store_url: The store that holds the release; it is only read.
        version: The release.
        source: The scans that it was made from.
        to: Store to compute into, kept for another try; a scratch folder that is removed when left out.
        cluster: Where nodules are worked on.

    Raises:
        InputError: There is no such release, this program does not know its recipe, or `to` is the store itself.
    """
    store = open_store(store_url)
    release = Release.open(store, version)
    recipe = recipe_from(release.manifest.recipe, f"of release {version}")
    hopeless = out_of_reach(release)
    members = [member for nodule_id, member in release.members.items() if nodule_id not in hopeless]
    with _scratch(to) as scratch:
        anew = open_store(scratch, create=True)
        if anew.url == store.url:
            raise InputError(
                "a release is reproduced into another store",
                got=f"--to {to}, which holds it",
                expected="a new store",
                remedy="Give another --to, or none.",
            )
        if members:
            patients = frozenset(member.patient_id for member in members)
            with prefect_server():
                curate(CurationJob(source, scratch, recipe), patients, cluster)
        return tuple(compare_with_release(release, anew))


@contextmanager
def _scratch(to: str | None) -> Iterator[str]:
    if to is not None:
        yield to
        return
    with TemporaryDirectory(prefix="halosign-reproduce-") as folder:
        yield str(Path(folder) / "store")
