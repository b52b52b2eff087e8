"""What a run says while it goes on: a bar for people, or one JSON line an event for machines; on every worker too."""

import logging
import sys
from typing import Any, Literal

from distributed import Client, Worker, WorkerPlugin
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]
FORMAT_VARIABLE = "HALOSIGN_LOG_FORMAT"
"""Environment variable that stands for ``--log-format``."""

logger = logging.getLogger("halosign")


class JsonLogsOnWorker(WorkerPlugin):
    """Make a worker log as the client does; Dask brings it to every worker, those that come later too."""

    name = "halosign-json-logs"

    def setup(self, worker: Worker) -> None:
        """Begin to log; called by Dask."""
        log_json({"worker": worker.address})


def log_json(always: dict[str, Any] | None = None) -> None:
    """Write one JSON line an event to standard error, from now on in this process.

    Args:
        always: Fields that every line has.
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
        static_fields=always or {},
    )
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def logs_json() -> bool:
    """Tell whether this process writes JSON lines."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers)


def log_on_workers(client: Client) -> None:
    """Make every worker log as this process does."""
    if logs_json():
        try:
            client.register_plugin(JsonLogsOnWorker())
        except (
            Exception
        ):  # whatever a worker answers; those that did not take it say less, and work as well
            logger.warning("some workers do not log", exc_info=True)
