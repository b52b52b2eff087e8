"""Publishing: decided cases -> gates -> release."""

from dataclasses import replace

from prefect import flow, get_client, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.deployments import run_deployment

from qc.figures.release_statistics import draw_release_statistics
from storage.recipe import Recipe
from storage.releases.release import Draft, Release, publish_release
from storage.store import open_store
from tasks.publish import draft_release

FOLLOWS_RELEASE = "follows-release"
"""Tag of the deployments that every new release queues; their flows take `store` and `version`."""


@flow(name="publish")
def publish(store_url: str, version: str, recipe: Recipe, publisher: str) -> Release:
    """Publish the decided cases of a store as an immutable version."""
    draft = picture(version, gather(store_url, version, recipe))
    release = freeze(store_url, version, draft, publisher)
    announce(release)
    # The release stands, whatever becomes of what follows it.
    queue_followers(store_url, version, return_state=True)
    return release


@task(cache_policy=NO_CACHE)
def gather(store_url: str, version: str, recipe: Recipe) -> Draft:
    """Collect what was chosen and hold it against the gates."""
    return draft_release(open_store(store_url), version, recipe)


@task(cache_policy=NO_CACHE)
def picture(version: str, draft: Draft) -> Draft:
    """Add the fingerprint as a figure; a release never changes, so it is drawn before the manifest is made."""
    note = ", stand-in data" if draft.synthetic else ""
    drawn = draw_release_statistics(draft.own_files["fingerprint.csv"], f"Halosign {version}{note}")
    return replace(draft, own_files={**draft.own_files, "fingerprint.png": drawn})


@task(cache_policy=NO_CACHE)
def freeze(store_url: str, version: str, draft: Draft, publisher: str) -> Release:
    """Write the release; the manifest last."""
    return publish_release(open_store(store_url), version, draft, publisher=publisher)


@task(cache_policy=NO_CACHE)
def announce(release: Release) -> None:
    """Leave a note where Prefect's users look."""
    warning = " **Synthetic data.**" if release.manifest.synthetic else ""
    where = f"Release **{release.version}** of `{release.store.url}`"
    text = f"{where}: {len(release.members)} nodules.{warning}"
    create_markdown_artifact(markdown=text, key="release", description="What was published")


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=10)
def queue_followers(store_url: str, version: str) -> list[str]:
    """Queue what the server has deployed to follow a release, such as training, and wait for none of it."""
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
