"""The services of docker-compose.yml in containers, in this order: `make compose-test`."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest
import yaml

from storage.sources.synthetic import write_synthetic
from tests.cluster.compose import substitute
from tests.cluster.engine import ROOT, NoEngineError, container_engine
from tests.s3 import free_port

pytestmark = [pytest.mark.slow, pytest.mark.engine]

SECRETS = ("POSTGRES_PASSWORD", "PREFECT_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
LASTING = {"postgres", "prefect", "objects", "scheduler", "worker", "cpu"}
ENDING = {"bucket", "store", "deployments"}
FINAL = {"Completed", "Incomplete", "Stopped", "Failed", "Crashed", "Cancelled"}
PORTS = ("PREFECT_PORT", "DASK_PORT", "REVIEW_PORT")
PYPI = "https://pypi.org/simple"
WORKERS = 2
PATIENCE_S = 600
KILL_ALL = ("sh", "-c", "kill -9 -1")
"""Every process of a container but its first, which then ends: unlike `docker kill`, the engine
restarts it."""
HALOSIGN = (sys.executable, "-m", "flows.cli")
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()


class Containers:
    """The cluster of docker-compose.yml under a project of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def call(self, *words: str, patience_s: float = 1800) -> str:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def compose(self, *words: str) -> str:
        return self.call("docker", "compose", *words)

    def inside(self, service: str, *words: str) -> str:
        return self.compose("exec", "-T", service, *words)

    def kill(self, service: str) -> None:
        words = ("docker", "compose", "exec", "-T", service, *KILL_ALL)
        subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, check=False)

    def page(self, port: str) -> str:
        return f"http://127.0.0.1:{self.environment[port]}"

    def inspect(self, service: str) -> list[dict]:
        ids = self.compose("ps", "-aq", service).split()
        return json.loads(self.call("docker", "inspect", *ids))

    def restarts(self, service: str) -> int:
        return sum(one["RestartCount"] for one in self.inspect(service))

    def begin(self, store: str) -> str:
        """Begin a run of the nightly deployment, with a store of its own, and return its id."""
        words = (
            "prefect",
            "deployment",
            "run",
            "curate/nightly",
            "-p",
            f"store=s3://halosign/{store}",
        )
        return re.search(r"UUID: (\S+)", self.inside("cpu", *words))[1]

    def run(self, run_id: str) -> dict:
        return self._ask("GET", f"flow_runs/{run_id}")

    def runs(self) -> list[dict]:
        return self._ask("POST", "flow_runs/filter", json={"sort": "START_TIME_ASC"})

    def ended(self, run_id: str) -> str:
        """Wait for the end of a run; a crash is none, since it begins again."""
        final = FINAL - {"Crashed"}
        return wait_for(
            lambda: (name := self.run(run_id)["state_name"]) in final and name, f"run {run_id}"
        )

    def outcomes(self, store: str) -> int:
        listed = self.inside(
            "objects", "sh", "-c", f"ls /data/halosign/{store}/outcomes 2>/dev/null || true"
        )
        return len(listed.split())

    def marks(self, store: str) -> str:
        """Return the marks of all cases, which have the SHA-256 of every file of a case."""
        script = f"cd /data/halosign/{store} && find cases -name '*.done' | sort | xargs sha256sum"
        return self.inside("objects", "sh", "-c", script)

    def _ask(self, method: str, path: str, **given):
        def answer():
            try:
                replied = httpx.request(
                    method,
                    f"{self.page('PREFECT_PORT')}/api/{path}",
                    auth=("halosign", self.environment["PREFECT_PASSWORD"]),
                    trust_env=False,
                    timeout=30,
                    **given,
                )
            except httpx.TransportError:
                return None
            return replied if replied.status_code == 200 else None

        return wait_for(answer, f"Prefect's answer to {path}").json()


def wait_for(condition, what, patience_s=PATIENCE_S):
    until = time.monotonic() + patience_s
    while not (answer := condition()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(1)
    return answer


def torch_index():
    """Return where torch without CUDA comes from; where only mirrors answer, pip has them set."""
    built = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["bucket"]["build"]
    index = substitute(built["args"]["TORCH_INDEX"], {})
    try:
        httpx.get(index)
    except httpx.HTTPError:
        return PYPI
    return index


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="halosign-containers-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def containers(folder):
    """The cluster, built and up; nothing of it is left afterwards."""
    scans = folder / "scans"
    list(write_synthetic(scans, ("LIDC-IDRI-0003", "LIDC-IDRI-0078"), seed=1))
    try:
        engine = container_engine(folder / "engine")
        environment = engine.__enter__()
    except NoEngineError as error:
        pytest.skip(str(error))
    settings = {name: f"madeup{n}" for n, name in enumerate(SECRETS)} | {
        "COMPOSE_PROJECT_NAME": "halosign-test",
        "HALOSIGN_IMAGE_TAG": "test",
        "HALOSIGN_DICOM": str(scans),
        "HALOSIGN_RECIPE": "demo",
        "HALOSIGN_NIGHTLY": "* * * * *",
        "DASK_WORKERS": str(WORKERS),
        "TORCH_CPU_INDEX": torch_index(),
        **{name: str(free_port()) for name in PORTS},
    }
    environment.pop("AWS_CA_BUNDLE", None)  # the rclone of Debian 12 does not work with it
    found = Containers({**environment, **settings})
    try:
        found.compose("up", "-d", "--build", "--wait")
        yield found
    finally:
        found.compose("--profile", "review", "down", "-v", "--remove-orphans")
        engine.__exit__(None, None, None)


@pytest.fixture(scope="module")
def undisturbed(containers):
    """The marks after the first run that the schedule began; then the schedule rests."""
    run = wait_for(
        lambda: next(
            (run for run in containers.runs() if run["auto_scheduled"] and run["start_time"]), None
        ),
        "a run by schedule",
    )
    containers.inside("cpu", "prefect", "--no-prompt", "deployment", "schedule", "pause", "--all")
    assert containers.ended(run["id"]) == "Completed"
    wait_for(
        lambda: {one["state_name"] for one in containers.runs() if one["auto_scheduled"]} <= FINAL,
        "the end of what the schedule began meanwhile",
    )
    marks = containers.marks("store")
    assert marks
    return marks


def test_one_image_without_cuda_serves_all_services_of_halosign(containers):
    images = {one["Image"] for name in LASTING | ENDING for one in containers.inspect(name)}
    assert len(images) == 3  # with PostgreSQL and the bucket
    sizes = containers.call("docker", "image", "inspect", "-f", "{{.Size}}", "halosign:test")
    print(f"image: {int(sizes) / 1e9:.2f} GB")
    shown = containers.inside("cpu", "python", "-c", "import torch; print(torch.version.cuda)")
    assert shown == "None\n"


@pytest.mark.parametrize("service", sorted(LASTING))
def test_a_service_is_healthy_and_has_no_rights(service, containers):
    for one in containers.inspect(service):
        assert one["State"]["Health"]["Status"] == "healthy"
        assert one["HostConfig"]["Memory"] > 0
        assert one["HostConfig"]["PidsLimit"] > 0
    status = dict(
        line.split(":\t", 1)
        for line in containers.inside(service, "cat", "/proc/1/status").splitlines()
    )
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    users = set(status["Uid"].split())
    assert "0" not in users
    if service != "postgres":
        assert users == {"10001"}


@pytest.mark.parametrize("service", sorted(ENDING))
def test_a_service_that_prepares_has_ended_well(service, containers):
    (one,) = containers.inspect(service)
    assert (one["State"]["Status"], one["State"]["ExitCode"]) == ("exited", 0)


def test_pages_are_published_on_the_loopback_only(containers):
    for service in LASTING:
        for one in containers.inspect(service):
            for places in one["NetworkSettings"]["Ports"].values():
                assert {place["HostIp"] for place in places or ()} <= {"127.0.0.1"}


def test_the_schedule_begins_a_run_that_completes(containers, undisturbed):
    counts = json.loads(
        containers.inside("cpu", "halosign", "status", "--store", "s3://halosign/store", "--json")
    )
    assert counts["states"]["done"] == len(undisturbed.splitlines())


@pytest.mark.parametrize("service", ["worker", "scheduler"])
def test_a_killed_service_of_dask_is_restarted_and_the_run_completes(
    service, containers, undisturbed
):
    before = containers.restarts(service)
    store = f"{service}-killed"
    run = containers.begin(store)
    wait_for(lambda: containers.outcomes(store), "the first outcome")
    containers.kill(service)
    assert containers.ended(run) == "Completed"
    assert containers.restarts(service) > before
    assert containers.marks(store) == undisturbed


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_run_whose_container_is_gone_begins_again_by_itself(how, containers, undisturbed):
    store = f"cpu-{how}"
    run = containers.begin(store)
    wait_for(lambda: containers.outcomes(store), "the first outcome")
    begin = time.monotonic()
    if how == "killed":
        containers.kill("cpu")
    else:
        containers.compose("stop", "cpu")
        containers.compose("up", "-d", "--wait", "cpu")
    assert containers.ended(run) == "Completed"
    print(f"cpu {how}: run complete after {time.monotonic() - begin:.0f} s")
    assert containers.run(run)["run_count"] > 1
    assert containers.marks(store) == undisturbed


def test_a_run_outlives_down_and_up(containers, undisturbed):
    run = containers.begin("down")
    wait_for(lambda: containers.outcomes("down"), "the first outcome")
    containers.compose("down")
    containers.compose("up", "-d", "--wait")
    assert containers.ended(run) == "Completed"
    assert containers.marks("down") == undisturbed


def test_the_review_page_lets_in_who_has_a_token(containers, undisturbed):
    command = next(
        line for line in RUNBOOK.splitlines() if line.startswith("docker compose run --rm review")
    )
    token = containers.call("sh", "-c", command).split()
    containers.compose("--profile", "review", "up", "-d", "--wait", "review")
    url = containers.page("REVIEW_PORT")
    with httpx.Client(base_url=url, trust_env=False, headers={"origin": url}) as browser:
        assert browser.get("/").headers["location"].startswith("/sign-in")
        wrong = browser.post("/sign-in", data={"name": "ann", "token": "wrong"})
        assert wrong.status_code == 403
        assert "do not belong together" in wrong.text
        (right,) = [word for word in token if len(word) >= 32]
        assert browser.post("/sign-in", data={"name": "ann", "token": right}).status_code == 303
        assert browser.get("/").status_code == 200


def test_the_runbook_backs_up_and_restores(containers, undisturbed, folder):
    if not shutil.which("rclone"):
        pytest.skip("rclone is not installed")
    before = {run["id"] for run in containers.runs()}
    backup, restore = runbook_blocks("Back up")
    address = "".join(backup.partition(':7070"\n')[:2])
    follow(backup, containers, folder)
    check = (*HALOSIGN, "store", "check", "--store", str(folder / "backup" / "store"))
    containers.call(*check)
    containers.compose("--profile", "review", "down", "-v")
    follow(restore.replace("rclone", f"{address}rclone"), containers, folder)
    assert containers.marks("store") == undisturbed
    assert before <= {run["id"] for run in containers.runs()}


def runbook_blocks(title: str) -> list[str]:
    """Return the blocks of shell commands of a section of docs/operations.md."""
    section = RUNBOOK.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def follow(block: str, containers: Containers, folder: Path) -> None:
    """Run commands of the runbook with a folder of the test in place of /backup."""
    script = block.replace("/backup", str(folder / "backup"))
    containers.call("sh", "-ec", script)
