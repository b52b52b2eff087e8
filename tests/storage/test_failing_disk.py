"""A disk that fails: what reads and writes says so in the errors of the store, at once."""

import errno
import os
import time

import obstore
import pytest
from obstore.exceptions import GenericError

from storage.cases.case import read_case
from storage.cases.outcomes import find_outcome
from storage.errors import UnavailableError
from storage.folder import Disk, Folder
from storage.releases.reader import _zarr_store
from storage.store import RETRY_S, open_store
from storage.zarr_files import ZarrFiles
from tests.reviewable import reviewable_store

FAILURE = GenericError("Generic LocalFileSystem error: Input/output error (os error 5)")


async def fail(*_, **__):
    raise FAILURE


def test_a_case_that_cannot_be_read_is_no_damaged_one(tmp_path, monkeypatch):
    store = reviewable_store(tmp_path, 1)
    nodule = "P-1-a1"
    case = read_case(store, nodule, find_outcome(store, nodule).digest)
    monkeypatch.setattr(obstore, "get_async", fail)
    for read in (lambda: case.alpha("cf"), lambda: read_case(store, nodule, case.digest)):
        with pytest.raises(UnavailableError, match="Input/output error"):
            read()


def test_every_reader_of_a_bucket_reads_this_way(tmp_path):
    store = open_store(str(tmp_path), create=True)
    assert isinstance(_zarr_store(store), ZarrFiles)


@pytest.mark.parametrize("call", ["write", "sync_files", "link", "sync_folders"])
def test_what_is_written_once_is_not_tried_for_minutes_in_a_folder(call, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = open_store(str(tmp_path), create=True)
    disk = Disk()
    monkeypatch.setattr(disk, call, fails)
    store._folder = Folder(tmp_path, disk)
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match="Input/output error"):
        store.create("a/b", b"1")
    assert time.monotonic() - begin < RETRY_S / 10
