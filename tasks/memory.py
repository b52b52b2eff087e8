"""How much memory this process holds and has held, as the kernel says."""

import re
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Give the most memory that this process has held. On Linux `ru_maxrss` also counts the process that began it."""
    try:
        return status_bytes("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


def status_bytes(name: str) -> int:
    """Give one of the kernel's marks, e.g. VmRSS or VmHWM; raises OSError where it has none."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise OSError(f"the kernel does not tell {name}")
    return int(found.group(1)) * 1024
