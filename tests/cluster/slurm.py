"""SLURM with this machine as its one node, from Debian's packages, for `make slurm-test`."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dask.system import CPU_COUNT

from tests.s3 import free_port

PROGRAMS = ("slurmctld", "slurmd", "munged", "squeue", "scancel")
START_S = 60
PARTITION = "cpu"
"""That of the example in docs/cluster.md."""
MEMORY_MB = 20_000
"""What the node claims to have: jobs are bounded by cores and not by this machine's memory."""


class NoSlurmError(Exception):
    """SLURM is not installed and cannot be."""


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment in which `sbatch` and `squeue` work; leave no daemon running.

    Raises:
        NoSlurmError: It cannot be installed or does not start; the message says why.
    """
    _install()
    settings = _configure(folder)
    environment = {**os.environ, "SLURM_CONF": str(settings)}
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for words in (_munged(folder), ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{words[0]}.log").open("wb") as log:
                daemons.append(
                    subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )
            _wait_for(folder / "munge" / "socket")
        _wait_until_idle(folder, environment)
        yield environment
    finally:
        subprocess.run(["scancel", "--partition", PARTITION], env=environment, check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()


def _install() -> None:
    if all(shutil.which(program) for program in PROGRAMS):
        if os.getuid():
            raise NoSlurmError("only root can start the daemons of SLURM")
        return
    if os.getuid() or not shutil.which("apt-get"):
        raise NoSlurmError("SLURM is not installed, and is installed only by root on Debian")
    install = ("apt-get", "install", "-qqy", "--no-install-recommends", "slurm-wlm", "munge")
    for words in (("apt-get", "update", "-qq"), install):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoSlurmError(f"SLURM cannot be installed: {done.stderr[-500:]}")


def _configure(folder: Path) -> Path:
    host = socket.gethostname().split(".")[0]
    folder.chmod(0o755)  # munged refuses a socket that others cannot reach
    (folder / "munge").mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    settings = folder / "slurm.conf"
    settings.write_text(
        f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={CPU_COUNT} RealMemory={MEMORY_MB} State=UNKNOWN
PartitionName={PARTITION} Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    return settings


def _munged(folder: Path) -> list[str]:
    own = folder / "munge"
    places = {name: own / name for name in ("socket", "pid", "log", "seed", "key")}
    return [
        "munged",
        "--foreground",
        f"--socket={places['socket']}",
        f"--pid-file={places['pid']}",
        f"--log-file={places['log']}",
        f"--seed-file={places['seed']}",
        f"--key-file={places['key']}",
    ]


def _wait_for(path: Path) -> None:
    until = time.monotonic() + START_S
    while not path.exists():
        if time.monotonic() > until:
            said = (path.parents[1] / "munged.log").read_text()[-500:]
            raise NoSlurmError(f"munged does not start: {said}")
        time.sleep(0.1)


def _wait_until_idle(folder: Path, environment: dict[str, str]) -> None:
    until = time.monotonic() + START_S
    while True:
        words = ["sinfo", "--noheader", "--format=%T"]
        said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if said.stdout.strip() == "idle":
            return
        if time.monotonic() > until:
            logs = "\n".join(log.read_text()[-500:] for log in folder.glob("slurm*.log"))
            raise NoSlurmError(f"SLURM does not start: {said.stdout}{said.stderr}\n{logs}")
        time.sleep(0.5)
