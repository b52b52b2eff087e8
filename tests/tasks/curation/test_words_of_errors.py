"""What the log says of a nodule that failed: words, and a traceback only of surprises."""

import errno
import os

import pytest

from storage.errors import CorruptionError, NotFoundError, ReadError, UnavailableError, WriteError
from storage.recipe import Recipe
from storage.sources.base import Nodule
from storage.sources.registry import SourceSpec
from tasks.curation.context import CurationJob, NoduleContext, _explain

SAID = "a disk is full"


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [
        *(
            (kind(SAID), False)
            for kind in (CorruptionError, NotFoundError, ReadError, UnavailableError, WriteError)
        ),
        (OSError(errno.EIO, os.strerror(errno.EIO), SAID), False),
        (ZeroDivisionError(SAID), True),
        (MemoryError(SAID), True),
    ],
    ids=lambda one: type(one).__name__,
)
def test_errors_of_store_and_disk_have_no_traceback(error, has_traceback, tmp_path, caplog):
    job = CurationJob(SourceSpec("files", str(tmp_path)), str(tmp_path), Recipe())
    context = NoduleContext(Nodule("n1", "P-1", {}), job)
    try:
        raise error
    except type(error) as raised:
        _explain(context, raised)
    assert SAID in caplog.text
    assert ("Traceback" in caplog.text) == has_traceback
