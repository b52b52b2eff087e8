"""Faults of a cluster at random moments, after which the same command finishes the job.

Every test asserts the same: no case is missing, incomplete or different from a run without
faults, and no finished case is computed again.
"""

import os
import re
import signal
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from tests.faults.harness import Setting, running, suffer
from tests.faults.services import DaskCluster, Postgres, PrefectServer, postgres_programs, tiny_disk
from tests.s3 import BUCKET, Proxy, environment

ONE_CASE = re.compile(r"prefix=[^&]*%2Fcases%2F[^&%]+%2F[0-9a-f]{64}(%2F)?(&|$)")
"""In a listing's address: it is of the files of one case."""
SEEDS = (3, 7, 13, 19, 29, 37, 43, 53, 67, 79, 83, 97, 101, 107, 113, 127, 131, 139, 149, 151)
RUNS = 10
"""Of most faults."""


def seeds(quick: int, runs: int = RUNS):
    """Some for every day, all for the night."""
    return pytest.mark.parametrize(
        "seed",
        [
            seed if n < quick else pytest.param(seed, marks=pytest.mark.slow)
            for n, seed in enumerate(SEEDS[:runs])
        ],
    )


@pytest.fixture
def setting(scene, prefect, tmp_path):
    return Setting(scene, str(tmp_path / "store"), environment={"PREFECT_API_URL": prefect.url})


def nothing_is_lost(report, reports):
    reports.append(report)
    print(report)
    assert report.lost == 0
    assert report.recomputed == 0


@seeds(quick=0)
def test_a_worker_is_killed(seed, setting, dask, reports):
    def strike(_, dice):
        os.kill(dice.choice(dask.worker_pids()), signal.SIGKILL)
        return 0

    dask.fill_up()
    setting.where = ("--scheduler", dask.address)
    report = suffer("worker killed", seed, setting, strike)
    nothing_is_lost(report, reports)
    assert report.first_exit == 0
    assert report.second_computed == 0


@pytest.fixture(scope="module")
def impatient_dask():
    """A cluster that gives a silent worker up after seconds, and whose workers nobody restarts."""
    with DaskCluster(nanny=False, worker_ttl="2s") as cluster:
        yield cluster


PAUSE_S = 10.0
"""Longer than the five seconds (ten heartbeats) that Dask allows a worker at least."""


@seeds(quick=0)
def test_a_worker_is_paused_past_the_timeout_and_returns(seed, setting, impatient_dask, reports):
    def strike(_, dice):
        sleeper = dice.choice(impatient_dask.worker_pids())
        os.kill(sleeper, signal.SIGSTOP)
        time.sleep(PAUSE_S)
        os.kill(sleeper, signal.SIGCONT)
        return 0

    impatient_dask.fill_up()
    setting.where = ("--scheduler", impatient_dask.address)
    nothing_is_lost(suffer("worker paused, returns", seed, setting, strike), reports)


@seeds(quick=0)
def test_the_dask_scheduler_is_killed(seed, setting, reports):
    with DaskCluster() as cluster:

        def strike(first, dice):
            cluster.scheduler.kill()
            cluster.scheduler.wait()
            first.process.wait(timeout=120)
            words = " ".join(first.log.read_text().split())
            if first.process.returncode:
                lost = "the connection to the Dask scheduler was lost"
                never_there = "the Dask scheduler does not respond"
                assert (lost in words and "run the same command again" in words) or (
                    never_there in words and first.process.returncode == 2
                )
            time.sleep(dice.uniform(0, 2))
            cluster.end_workers()  # as their supervisor does, once they have lost their scheduler
            cluster.start_scheduler()
            cluster.fill_up()
            return 0

        setting.where = ("--scheduler", cluster.address)
        setting.environment["DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"] = (
            "3s"  # how long it looks for it again
        )
        nothing_is_lost(suffer("Dask scheduler killed", seed, setting, strike), reports)


@seeds(quick=0)
def test_the_prefect_server_is_stopped_and_started_again(seed, setting, dask, reports, tmp_path):
    with PrefectServer(tmp_path / "prefect") as server:

        def strike(_, dice):
            server.process.send_signal(dice.choice((signal.SIGKILL, signal.SIGTERM)))
            server.process.wait()
            time.sleep(dice.uniform(0, 3))
            server.start()
            return 0

        dask.fill_up()
        setting.where, setting.environment["PREFECT_API_URL"] = (
            ("--scheduler", dask.address),
            server.url,
        )
        nothing_is_lost(suffer("Prefect server restarted", seed, setting, strike), reports)


@pytest.fixture(scope="module")
def prefect_on_postgres(tmp_path_factory):
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # pytest's own folders are closed to `postgres`, who has to walk in.
    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres(Path(folder)) as database,
        PrefectServer(tmp_path_factory.mktemp("prefect"), database.url) as server,
    ):
        yield database, server


@seeds(quick=0)
def test_postgresql_is_restarted(seed, setting, dask, prefect_on_postgres, reports):
    database, server = prefect_on_postgres

    def strike(_, dice):
        database.restart(dice.choice(("fast", "immediate")))
        return 0

    dask.fill_up()
    setting.where, setting.environment["PREFECT_API_URL"] = (
        ("--scheduler", dask.address),
        server.url,
    )
    nothing_is_lost(suffer("PostgreSQL restarted", seed, setting, strike), reports)


@pytest.mark.parametrize(
    ("mode", "seed", "outage_s"),
    [
        pytest.param("reset", SEEDS[0], 3.0, marks=pytest.mark.slow),
        *(
            pytest.param(("503", "reset")[n % 2], seed, 20.0, marks=pytest.mark.slow)
            for n, seed in enumerate(SEEDS[:RUNS])
        ),
    ],
)
def test_the_bucket_fails_for_a_while(seed, mode, outage_s, setting, s3_port, reports):
    with (
        Proxy(s3_port) as proxy,
        environment({**proxy.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}"}),
    ):

        def strike(*_):
            proxy.mode = mode
            time.sleep(outage_s)
            proxy.mode = "pass"
            return 0

        setting.store_url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
        setting.environment |= proxy.environment
        # A worker holds the endpoint from its start, so these are the command's own.
        report = suffer(f"S3 fails for {outage_s:.0f} s", seed, setting, strike)
        nothing_is_lost(report, reports)
        assert report.first_exit == 0
        assert report.second_computed == 0


@pytest.mark.slow
def test_a_run_lists_nothing_but_the_files_of_finished_cases(setting, s3_port):
    """The report at the end lists the store, and so is left out."""
    setting.where = ("--workers", "2", "--no-report")
    with (
        Proxy(s3_port) as proxy,
        environment({**proxy.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}"}),
    ):
        setting.store_url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
        setting.environment |= proxy.environment
        for _ in range(2):  # the second finds all cases
            with running(setting) as command:
                assert command.process.wait(timeout=600) == 0, command.log.read_text()
        listings = [path for _, path in proxy.requests if "list-type" in path]
        assert listings
        assert not [path for path in listings if not ONE_CASE.search(path)]


@seeds(quick=0)
def test_the_disk_fills_up(seed, setting, dask, reports, tmp_path, scene):
    whole_kb = sum(map(len, scene.undisturbed.values())) // 1024
    try:
        disk = tiny_disk(tmp_path / "disk", whole_kb * (seed % 7 + 2) // 10)
        grow = disk.__enter__()
    except PermissionError as error:
        pytest.skip(f"no file system of one's own can be mounted: {error}")
    try:

        def strike(first, _):
            assert first.process.wait(timeout=600) == 1
            assert "No space left on device" in first.log.read_text()
            grow(whole_kb * 10)
            return 0

        dask.fill_up()
        setting.where, setting.store_url = (
            ("--scheduler", dask.address),
            str(tmp_path / "disk" / "store"),
        )
        nothing_is_lost(suffer("disk full", seed, setting, strike, moment=False), reports)
    finally:
        disk.__exit__(None, None, None)


@seeds(quick=0)
def test_two_commands_work_on_one_store(seed, setting, dask, reports):
    def strike(first, dice):
        time.sleep(dice.uniform(0, 3))
        with running(setting) as other:
            assert first.process.wait(timeout=600) == 0
            assert other.process.wait(timeout=600) == 0
            return len(first.computed() & other.computed())

    dask.fill_up()
    setting.where = ("--scheduler", dask.address)
    report = suffer("two commands, one store", seed, setting, strike, moment=False)
    nothing_is_lost(report, reports)
    assert report.second_computed == 0
