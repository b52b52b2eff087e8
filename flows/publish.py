"""Publishing: cases with a verdict -> checks -> release."""

from dataclasses import replace

from prefect import flow, get_client, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.deployments import run_deployment

from flows.engine.progress_bar import ProgressBar
from qc.figures.drawing import png
from qc.figures.matte import draw_matte
from qc.figures.release_statistics import draw_release_statistics
from qc.report.nodules import subject_of
from storage.cases.case import read_case
from storage.recipe import Recipe
from storage.records import UNSTATED, About
from storage.releases.release import Draft, Release, publish_release
from storage.releases.statistics import median_nodule
from storage.store import open_store
from tasks.publish import draft_release

FOLLOWS_RELEASE = "follows-release"
"""Tag of the deployments that run after every new release; their flows take `store` and
`version`."""


@flow(name="publish")
def publish(
    store_url: str, version: str, recipe: Recipe, publisher: str, about: About = UNSTATED
) -> Release:
    """Publish the cases with a verdict as an immutable version.

    Args:
        store_url: Folder or URL of the store.
        version: The new version, MAJOR.MINOR.PATCH.
        recipe: The recipe by which the cases were curated.
        publisher: Name of the publisher.
        about: Title, authors, license and contact; what it leaves out is as in the release before.

    Returns:
        The release.

    Raises:
        InputError: A check failed; nothing was published.
    """
    draft = draft_cases(store_url, version, recipe, about)
    draft = add_pictures(store_url, version, draft)
    release = write_release(store_url, version, draft, publisher)
    create_release_artifact(release)
    # A failure here does not affect the release, which is published.
    queue_follow_up_runs(store_url, version, return_state=True)
    return release


@task(cache_policy=NO_CACHE)
def draft_cases(store_url: str, version: str, recipe: Recipe, about: About) -> Draft:
    """Collect the chosen mattes and check them."""
    with ProgressBar("publishing") as bar:

        def on_step(text: str, done: int, total: int) -> None:
            bar.update(done, total=total, text=text)

        return draft_release(open_store(store_url), version, recipe, about, on_step)


@task(cache_policy=NO_CACHE)
def add_pictures(store_url: str, version: str, draft: Draft) -> Draft:
    """Add the figure of the fingerprint, and the picture of one matte that the card shows.

    The manifest, which is immutable, lists their checksums.
    """
    note = ", synthetic data" if draft.synthetic else ""
    table = draft.own_files["fingerprint.csv"]
    shown = median_nodule(table)
    member = next(member for member in draft.members if member.nodule_id == shown)
    case = read_case(open_store(store_url), member.nodule_id, member.digest)
    pictures = {
        "fingerprint.png": draw_release_statistics(table, f"Halosign {version}{note}"),
        "matte.png": png(draw_matte(subject_of(case, member.method), member.method)),
    }
    return replace(draft, own_files={**draft.own_files, **pictures})


@task(cache_policy=NO_CACHE)
def write_release(store_url: str, version: str, draft: Draft, publisher: str) -> Release:
    """Write the files of the release, and the manifest last."""
    return publish_release(open_store(store_url), version, draft, publisher=publisher)


@task(cache_policy=NO_CACHE)
def create_release_artifact(release: Release) -> None:
    """Create a note about the release as an artifact in Prefect."""
    warning = " **Synthetic data.**" if release.manifest.synthetic else ""
    where = f"Release **{release.version}** of `{release.store.url}`"
    text = f"{where}: {len(release.members)} nodules.{warning}"
    create_markdown_artifact(markdown=text, key="release", description="Published release")


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=10)
def queue_follow_up_runs(store_url: str, version: str) -> list[str]:
    """Queue the deployments that run after a release without waiting; return their names."""
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[FOLLOWS_RELEASE]))
    with get_client(sync_client=True) as client:
        followers = client.read_deployments(deployment_filter=tagged)
    for follower in followers:
        run_deployment(
            follower.id,
            parameters={"store": store_url, "version": version},
            timeout=0,
            as_subflow=False,
            idempotency_key=f"{follower.id} {store_url} {version}",
        )
    return [follower.name for follower in followers]
