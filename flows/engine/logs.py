"""Logs of a run: a progress bar for people, or one JSON line per event for machines."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from distributed import Client, Worker, WorkerPlugin
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from pythonjsonlogger.json import JsonFormatter

from tasks.curation.context import STAGE_BEGINS

LogFormat = Literal["text", "json"]
FORMAT_VARIABLE = "HALOSIGN_LOG_FORMAT"
"""Environment variable in place of ``--log-format``."""

_STAGES = "halosign-stages"
"""Topic of Dask's events."""

logger = logging.getLogger("halosign")


class EventFormatter(JsonFormatter):
    """One JSON object per line: `time`, `level`, `event` and the fields of the event.

    An event that has a name has its text as `message`; without one, the text is its name.
    """

    def __init__(self, static_fields: dict[str, Any] | None = None) -> None:
        super().__init__(
            "{asctime}{levelname}{message}",
            style="{",
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            rename_fields={"asctime": "time", "levelname": "level", "exc_info": "error"},
            static_fields=static_fields or {},
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Name the event."""
        if "event" not in log_data:
            log_data["event"] = log_data.pop("message")
        return log_data


class JsonLogsOnWorker(WorkerPlugin):
    """Plugin that makes workers log JSON lines; Dask installs it on workers that join later too."""

    name = "halosign-json-logs"

    def setup(self, worker: Worker) -> None:
        """Configure the worker's logger; called by Dask."""
        log_json({"worker": worker.address})


class StagesOnWorker(WorkerPlugin):
    """Plugin that makes workers tell the client which stage of which nodule they begin."""

    name = "halosign-stages"

    def setup(self, worker: Worker) -> None:
        """Listen to what the worker logs; called by Dask."""
        self._handler = _StageTeller(worker)
        logger.addHandler(self._handler)
        logger.setLevel(logging.DEBUG)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Listen no more; called by Dask."""
        logger.removeHandler(self._handler)


class _StageTeller(logging.Handler):
    def __init__(self, worker: Worker) -> None:
        super().__init__(logging.DEBUG)
        self.addFilter(lambda record: getattr(record, "event", "") == STAGE_BEGINS)
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Send a stage to the client; called by logging."""
        self._worker.log_event(_STAGES, (record.__dict__["nodule"], record.__dict__["stage"]))


class _KeptLines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(EventFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep an event; called by logging."""
        self.lines.append(f"{self.format(record)}\n")


@contextmanager
def kept_lines() -> Iterator[list[str]]:
    """Keep what this process logs while the block runs, as JSON lines in the list given."""
    handler = _KeptLines()
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


def log_json(static_fields: dict[str, Any] | None = None) -> None:
    """Write one JSON line per event to standard error, from now on in this process.

    Args:
        static_fields: Fields to add to every line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO)
    handler.setFormatter(EventFormatter(static_fields))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def log_text() -> None:
    """Write warnings as text to standard error, beside the progress bar."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("{levelname}: {message}", style="{"))
    logger.handlers[:] = [handler]
    logger.propagate = False


def log_to_prefect() -> None:
    """Add what is logged in flow and task runs to their logs in Prefect."""
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, APILogHandler) for handler in logger.handlers):
        handler = APILogHandler()
        handler.addFilter(lambda _: bool(FlowRunContext.get() or TaskRunContext.get()))
        logger.addHandler(handler)


def is_json_logging() -> bool:
    """Return whether this process writes JSON lines to standard error."""
    return any(
        isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, JsonFormatter)
        for handler in logger.handlers
    )


def log_on_workers(client: Client, on_stage: Callable[[str, str], None]) -> None:
    """Make every worker log in the format of this process, and tell it of stages.

    Args:
        client: Of the workers' scheduler.
        on_stage: Called with the id of a nodule and the stage that a worker begins with it.
    """
    client.subscribe_topic(_STAGES, lambda event: on_stage(*event[1]))
    try:
        if is_json_logging():
            client.register_plugin(JsonLogsOnWorker())
        client.register_plugin(StagesOnWorker())
    except Exception:  # A worker without the plugins logs less, but computes the same.
        logger.warning("cannot configure logging on some workers", exc_info=True)
