"""A whole local cluster for tests: begun, asked by its API, and removed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tests.cluster.local_cluster import ROOT, LocalCluster

BINARIES = [os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
OF_THE_BUCKET = (
    *("AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
)
PATIENCE_S = 300
Answer = TypeVar("Answer")

needs_postgresql = pytest.mark.skipif(
    shutil.which("initdb", path=os.pathsep.join(BINARIES)) is None,
    reason="PostgreSQL is not installed: `apt-get install postgresql`",
)


def call(folder: Path, *words: object, **settings: str) -> str:
    """Call the module as `make cluster` does; return what it prints."""
    module = (sys.executable, "-m", "tests.cluster.local_cluster")
    command = [*module, words[0], "--folder", folder, *words[1:]]
    made_up = {name: f"madeup{n}" for n, name in enumerate(SECRETS)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **made_up, **settings}
    done = subprocess.run(
        list(map(str, command)),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def a_folder() -> Iterator[Path]:
    """Yield a folder for a cluster; stop what runs in it afterwards."""
    # PostgreSQL gives up root's rights, so its folder lies where everybody may go.
    folder = Path(tempfile.mkdtemp(prefix="halosign-cluster-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        call(folder, "down", HALOSIGN_DICOM="unused")
        shutil.rmtree(folder)


def wait_for(condition: Callable[[], Answer], what: str, every_s: float = 1.0) -> Answer:
    """Wait until a condition holds, and return what it gave."""
    begin = time.monotonic()
    while not (answer := condition()):
        assert time.monotonic() - begin < PATIENCE_S, f"waited in vain for {what}"
        time.sleep(every_s)
    return answer


class Running:
    """A whole cluster, and its API.

    Args:
        folder: Of the cluster.
        services: What is to run, with what it needs.
        settings: What the `${NAME}` of docker-compose.yml stand for.
    """

    def __init__(self, folder: Path, services: tuple[str, ...], **settings: str) -> None:
        self.folder, self.services, self.settings = folder, services, settings

    def up(self) -> None:
        """Start what does not run."""
        call(self.folder, "up", *self.services, **self.settings)

    @contextmanager
    def as_client(self) -> Iterator[None]:
        """Have this process use the cluster's bucket and its Prefect server."""
        with pytest.MonkeyPatch.context() as patch:
            client, _, _ = self.cluster.members["cpu"]
            for name in OF_THE_BUCKET:
                patch.setenv(name, client.environment[name])
            api = {
                PREFECT_API_URL: client.environment["PREFECT_API_URL"],
                PREFECT_API_AUTH_STRING: client.environment["PREFECT_API_AUTH_STRING"],
            }
            with temporary_settings(api):
                yield

    @property
    def cluster(self) -> LocalCluster:
        """Its processes, as they are now."""
        return LocalCluster(self.folder)

    def runs(self, flow_name: str) -> list[FlowRun]:
        """Return the runs of a flow that began or were asked for, oldest first."""
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])),
                flow_run_filter=FlowRunFilter(),
                limit=200,
            )
        return sorted(
            (run for run in found if run.start_time or not run.auto_scheduled),
            key=lambda run: run.created,
        )

    def finished(self, run_id: UUID) -> FlowRun:
        """Wait for the end of a run."""
        with get_client(sync_client=True) as client:
            return wait_for(
                lambda: (run := client.read_flow_run(run_id)).state.is_final() and run,
                f"flow run {run_id}",
            )
