"""Faults of the disk and signals at a chosen system call of a command, by `disk_faults.c`."""

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
READ_FAULTS = ("read-eio",)
WRITE_FAULTS = ("kill", "term", "write-eio", "write-enospc")
FAULTS = (*WRITE_FAULTS, *READ_FAULTS)


def build_library(folder: Path) -> Path:
    """Compile the library; raises FileNotFoundError without a C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler (Debian: apt-get install gcc)")
    library = folder / "disk_faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


@dataclass(frozen=True)
class Calls:
    """Number of system calls of a command that touched the folder."""

    reads: int
    writes: int

    def of(self, fault: str) -> int:
        """Return the number of calls that a fault can strike."""
        return self.reads if fault in READ_FAULTS else self.writes


class FaultyDisk:
    """A folder whose calls are counted, and struck.

    Args:
        library: See `build_library`.
        folder: Calls on paths below it are counted.
        fault: One of `FAULTS`; nothing happens where `at` is 0.
        at: Which call is struck, from 1.
        lasts: True where all later calls fail too.

    A command is on the disk if its environment holds `environment` and it leads a session.
    """

    def __init__(
        self, library: Path, folder: Path, fault: str = "kill", at: int = 0, *, lasts: bool = False
    ) -> None:
        self._counter = folder.with_name(f"{folder.name}.calls")
        self._counter.write_bytes(bytes(16))
        self.environment = {
            "LD_PRELOAD": str(library),
            "DISK_FOLDER": f"{folder}/",
            "DISK_COUNTER": str(self._counter),
            "DISK_FAULT": fault,
            "DISK_AT": str(at),
            "DISK_LASTS": str(int(lasts)),
        }

    @property
    def calls(self) -> Calls:
        """What was counted until now."""
        return Calls(*struct.unpack("qq", self._counter.read_bytes()))
