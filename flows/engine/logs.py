"""Logs of a run: a progress bar for people, or one JSON line per event for machines."""

import logging
import sys
from typing import Any, Literal

from distributed import Client, Worker, WorkerPlugin
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]
FORMAT_VARIABLE = "HALOSIGN_LOG_FORMAT"
"""Environment variable in place of ``--log-format``."""

logger = logging.getLogger("halosign")


class JsonLogsOnWorker(WorkerPlugin):
    """Plugin that makes workers log JSON lines; Dask installs it on workers that join later too."""

    name = "halosign-json-logs"

    def setup(self, worker: Worker) -> None:
        """Configure the worker's logger; called by Dask."""
        log_json({"worker": worker.address})


def log_json(static_fields: dict[str, Any] | None = None) -> None:
    """Write one JSON line per event to standard error, from now on in this process.

    Args:
        static_fields: Fields to add to every line.
    """
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter(
        "{asctime}{levelname}{message}",
        style="{",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
        rename_fields={
            "asctime": "time",
            "levelname": "level",
            "message": "event",
            "exc_info": "error",
        },
        static_fields=static_fields or {},
    )
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def is_json_logging() -> bool:
    """Return whether this process logs JSON lines."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers)


def log_on_workers(client: Client) -> None:
    """Make every worker log in the format of this process."""
    if is_json_logging():
        try:
            client.register_plugin(JsonLogsOnWorker())
        except Exception:  # A worker without the plugin logs less, but computes the same.
            logger.warning("cannot configure logging on some workers", exc_info=True)
