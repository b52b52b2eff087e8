"""Runs by the SLURM example of docs/cluster.md, whose jobs are cancelled: `make slurm-test`."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from storage.cases.outcomes import read_outcomes
from storage.sources.synthetic import write_synthetic
from storage.store import open_store
from tests.cluster.slurm import PARTITION, NoSlurmError, one_node_slurm

pytestmark = [pytest.mark.slow, pytest.mark.engine]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
EXAMPLE = next(block for block in PAGE.split("```yaml\n")[1:] if "SLURMCluster" in block).split(
    "```"
)[0]
PATIENCE_S = 900


@pytest.fixture(scope="module")
def slurm():
    with tempfile.TemporaryDirectory(prefix="halosign-slurm-", dir="/tmp") as folder:
        try:
            with one_node_slurm(Path(folder)) as environment:
                yield environment
        except NoSlurmError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    list(write_synthetic(folder, ("LIDC-IDRI-0003", "LIDC-IDRI-0078"), seed=1))
    return folder


def curate(folder, scans, *where, environment):
    """Start the command, with its store and its log in the folder."""
    command = [
        *(sys.executable, "-m", "flows.cli", "curate", "--dicom", scans, "--recipe", "demo"),
        *("--store", folder / "store", *where),
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def marks(folder):
    store = open_store(str(folder / "store"))
    return {key: store.get(key) for key in store.list_prefix("cases") if key.endswith(".done")}


@pytest.fixture(scope="module")
def undisturbed(scans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert curate(folder, scans, environment={}).wait(PATIENCE_S) == 0, (folder / "log").read_text()
    return folder


def states(folder):
    outcomes = read_outcomes(open_store(str(folder / "store")))
    return {outcome.nodule_id: outcome.state for outcome in outcomes}


def jobs(slurm):
    words = ["squeue", "--noheader", "--format=%i"]
    said = subprocess.run(words, env=slurm, capture_output=True, text=True, check=True)
    return set(said.stdout.split())


@pytest.mark.parametrize("scaling", ["as documented", "workers: 2"])
def test_jobs_that_are_cancelled_are_replaced_and_the_run_completes(
    scaling, slurm, scans, undisturbed, tmp_path
):
    text = EXAMPLE
    if scaling != "as documented":
        content = yaml.safe_load(EXAMPLE)
        del content["adapt"]
        text = yaml.safe_dump(content) + scaling + "\n"
    (tmp_path / "slurm.yaml").write_text(text)
    run = curate(tmp_path, scans, "--cluster", tmp_path / "slurm.yaml", environment=slurm)
    until = time.monotonic() + PATIENCE_S
    try:
        while not list((tmp_path / "store" / "cases").glob("*/*.done")):
            assert time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.2)
        cancelled = jobs(slurm)
        assert cancelled
        begin = time.monotonic()
        subprocess.run(["scancel", "--partition", PARTITION], env=slurm, check=True)
        while not jobs(slurm) - cancelled:
            assert time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.5)
        print(f"{scaling}: replaced after {time.monotonic() - begin:.0f} s")
        code = run.wait(PATIENCE_S)
    finally:
        run.kill()
        run.wait()
    assert code == 0, (tmp_path / "log").read_text()[-3000:]
    assert states(tmp_path) == states(undisturbed)
    assert marks(tmp_path) == marks(undisturbed)
    while jobs(slurm):
        assert time.monotonic() < until, "jobs are left in the queue"
        time.sleep(1)
