"""Clusters from a file: what may be named, and that work is done on what was named."""

import logging
import subprocess
import sys
import time

import pytest
import yaml
from distributed import Client
from distributed.system import MEMORY_LIMIT

from flows.engine.cluster import (
    Adapt,
    Cluster,
    ClusterFile,
    count_cores,
    count_workers,
    dask_client,
    load_cluster,
)
from matting.errors import InputError

IN_THREADS = {
    "processes": False,
    "n_workers": 1,
    "threads_per_worker": 1,
    "dashboard_address": "127.0.0.1:0",
}


def file(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return path


def test_a_class_with_its_arguments_is_started_and_scaled(tmp_path):
    text = yaml.safe_dump(
        {"class": "distributed.LocalCluster", "arguments": IN_THREADS, "workers": 3}
    )
    with dask_client(load_cluster(file(tmp_path, text))) as client:
        client.wait_for_workers(3, timeout=60)
        assert client.submit(sum, [1, 2]).result() == 3


def test_a_class_may_adapt(tmp_path):
    arguments = IN_THREADS | {"n_workers": 0}
    adapting = {
        "class": "distributed.LocalCluster",
        "arguments": arguments,
        "adapt": {"maximum": 2},
    }
    cluster = load_cluster(file(tmp_path, yaml.safe_dump(adapting)))
    assert cluster.file.adapt == Adapt(minimum=0, maximum=2)
    with dask_client(cluster) as client:
        assert client.submit(sum, [1, 2]).result(timeout=120) == 3


def test_an_address_is_joined(tmp_path):
    with dask_client(
        Cluster(file=ClusterFile(class_="distributed.LocalCluster", arguments=IN_THREADS))
    ) as own:
        text = f"address: {own.scheduler.address}\n"
        with dask_client(load_cluster(file(tmp_path, text))) as client:
            assert isinstance(client, Client)
            assert client.submit(sum, [1, 2]).result() == 3


def test_settings_are_in_force_only_meanwhile(tmp_path):
    import dask

    text = yaml.safe_dump(
        {
            "class": "distributed.LocalCluster",
            "arguments": IN_THREADS,
            "settings": {"distributed.scheduler.worker-ttl": "77s"},
        }
    )
    before = dask.config.get("distributed.scheduler.worker-ttl")
    with dask_client(load_cluster(file(tmp_path, text))) as client:
        assert client.cluster.scheduler.worker_ttl == 77
        assert client.cluster.scheduler.allowed_failures == 0
    assert dask.config.get("distributed.scheduler.worker-ttl") == before


def test_workers_of_our_own_never_pause_and_hold_one_nodule_a_thread():
    with dask_client(Cluster(workers=1)) as client:
        (manager,) = client.run(_memory_settings).values()
        assert client.cluster.scheduler.WORKER_SATURATION == 1.0
        (level,) = client.run(lambda: logging.getLogger("distributed.worker").level).values()
        (worker,) = client.scheduler_info()["workers"].values()
    assert worker["memory_limit"] == MEMORY_LIMIT, "one worker may use all"
    assert manager == (False, False, False, "1")
    assert level == logging.CRITICAL, "a lost scheduler is said once, by the process of the run"


def _memory_settings(dask_worker):
    import os

    of = dask_worker.memory_manager
    fractions = (of.memory_target_fraction, of.memory_spill_fraction, of.memory_pause_fraction)
    return *fractions, os.environ["NUMBA_NUM_THREADS"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class: distributed.LocalCluster\naddress: tcp://h:1\n",
            "give exactly one of `address` and `class`",
        ),
        ("workers: 3\n", "give exactly one of `address` and `class`"),
        ("address: tcp://h:1\nworkers: 3\n", "has its own workers"),
        ("class: a.B\nworkers: 3\nadapt: {maximum: 3}\n", "give `workers` or `adapt`, not both"),
        ("class: a.B\nworker: 3\n", "worker: Extra inputs are not permitted"),
        (
            "class: a.B\nworkers: 0\n",
            "got 0 for `workers`, expected a value greater than or equal to 1",
        ),
        ("class: [\n", "while parsing"),
        ("", "got None, expected a valid dictionary"),
        ("class: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=r"the cluster file .* is invalid") as refusal:
        load_cluster(file(tmp_path, text))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.Cluster", "cannot be imported: got nowhere.Cluster: No module named 'nowhere'"),
        ("distributed.NoCluster", "cannot be imported"),
        ("LocalCluster", "cannot be imported"),
        ("os.system", "is not a Dask cluster: got os.system"),
        ("builtins.dict", "is not a Dask cluster"),
    ],
)
def test_only_a_dask_cluster_may_be_named(path, message):
    with pytest.raises(InputError) as refusal, dask_client(Cluster(file=ClusterFile(class_=path))):
        pass
    assert message in str(refusal.value)


def test_arguments_that_the_class_does_not_take_are_refused():
    named = ClusterFile(class_="distributed.SpecCluster", arguments={"no_such_argument": 1})
    with (
        pytest.raises(InputError, match="the cluster cannot be started"),
        dask_client(Cluster(file=named)),
    ):
        pass


def test_slurms_example_writes_the_job_that_the_docs_promise():
    from pathlib import Path

    from dask_jobqueue import SLURMCluster

    page = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()
    example = next(block for block in page.split("```")[1::2] if "SLURMCluster" in block)
    named = ClusterFile.model_validate(yaml.safe_load(example.removeprefix("yaml")))
    assert named.class_ == "dask_jobqueue.SLURMCluster"
    with SLURMCluster(
        **named.arguments, scheduler_options={"dashboard_address": "127.0.0.1:0"}
    ) as cluster:
        script = cluster.job_script()
    assert "#SBATCH -p cpu" in script
    assert "export OMP_NUM_THREADS=1" in script
    assert "--nthreads 1" in script


def test_a_process_bound_to_one_core_starts_one_worker():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from flows.engine import cluster\n"
        "cluster.LocalCluster = lambda **given: print(given['n_workers'])\n"
        "cluster._start_local_cluster(cluster.LOCAL)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize(
    ("share", "cores"), [("4", 4), (None, 128), ("128", 128), ("256", 128), ("0", 128), ("x", 128)]
)
def test_the_share_of_a_slurm_job_is_kept_with_a_warning(share, cores, monkeypatch, caplog):
    monkeypatch.setattr("flows.engine.cluster.CPU_COUNT", 128)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    if share:
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", share)
    assert count_cores() == cores
    warned = "4 of the 128 cores: 4 workers. `--workers N`" in caplog.text
    assert warned == (cores < 128)


@pytest.mark.parametrize(
    ("worker_gb", "workers"), [(0, 16), (0.9, 16), (1.3, 12), (40, 1)], ids=str
)
def test_this_machine_has_no_more_workers_than_its_memory_holds(
    monkeypatch, caplog, worker_gb, workers
):
    monkeypatch.setattr("flows.engine.cluster.MEMORY_LIMIT", 16_000_000_000)
    monkeypatch.setattr("flows.engine.cluster.count_cores", lambda: 16)
    assert count_workers(worker_gb * 1e9) == workers
    warned = f"{workers} of 16 cores are used: a worker may need {worker_gb:.1f} GB" in caplog.text
    assert warned == (workers < 16)


def test_a_worker_whose_job_ended_is_replaced_without_adapt(monkeypatch):
    monkeypatch.setattr("flows.engine.cluster._REPLACE_EVERY_S", 0.2)
    settings = {"distributed.deploy.lost-worker-timeout": "100ms"}
    named = ClusterFile(
        class_="distributed.LocalCluster", arguments=IN_THREADS, workers=2, settings=settings
    )
    with dask_client(Cluster(file=named)) as client:
        client.wait_for_workers(2, timeout=30)
        before = set(client.nthreads())
        (one, *_) = client.cluster.workers.values()
        client.cluster.sync(one.close)
        deadline = time.monotonic() + 30
        while not (len(now := set(client.nthreads())) == 2 and now != before):
            assert time.monotonic() < deadline, (before, now)
            time.sleep(0.05)
        assert len(before & now) == 1
