"""Memory of this process, as the kernel reports it."""

import re
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes."""
    # On Linux `ru_maxrss` includes the parent at the time of the fork, so VmHWM comes first.
    try:
        return status_bytes("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


def status_bytes(name: str) -> int:
    """Return a value of `/proc/self/status` in bytes, e.g. VmHWM; raises OSError if missing."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise OSError(f"no {name} in /proc/self/status")
    return int(found.group(1)) * 1024
