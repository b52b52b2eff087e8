"""What a container engine does with ``restart: unless-stopped``, for the services of a cluster."""

import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from flows.engine.repeating import repeating
from tests.cluster.local_cluster import LocalCluster

LOOK_EVERY_S = 1.0


class Engine:
    """Starts services that end, and kills, stops and starts them on request.

    Args:
        cluster: The services as processes.
        restarted: Names of those that are started again when they end.
    """

    def __init__(self, cluster: LocalCluster, restarted: Iterable[str]) -> None:
        self._cluster, self._restarted = cluster, tuple(restarted)
        self._stopped: set[str] = set()
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def restarting(self) -> Iterator[None]:
        """Start services that end, until the context is left; then stop those that it started."""
        try:
            with repeating(self._look, LOOK_EVERY_S, "restart services"):
                yield
        finally:
            for name, process in self._started.items():
                self._cluster.stop(name)
                process.wait()

    def kill(self, name: str) -> bool:
        """Kill a service and its children; return False where it was not running."""
        with self._lock:
            process = self._cluster.running(name)
            if process is None:
                return False
            for one in (process, *process.children(recursive=True)):
                one.kill()
            return True

    def stop(self, name: str) -> None:
        """Stop a service by its stop signal; it is not started again before `start`."""
        with self._lock:
            self._stopped.add(name)
            self._cluster.stop(name)

    def start(self, name: str) -> None:
        """Start a service that was stopped."""
        with self._lock:
            self._stopped.remove(name)
            self._start(name)

    def _look(self) -> None:
        with self._lock:
            for name in set(self._restarted) - self._stopped:
                if self._cluster.running(name) is None:
                    self._start(name)

    def _start(self, name: str) -> None:
        if name in self._started:
            self._started[name].wait()
        self._started[name] = self._cluster.start(name)
