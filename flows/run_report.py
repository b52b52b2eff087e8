"""The report of a store after a run, kept in the store and linked from the run's artifacts.

It has no pictures: metadata and masks are read in about 10 ms a nodule, where drawing takes a
second. `halosign report` writes the one with pictures.
"""

import logging
import tempfile
from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from flows.report import report
from storage.errors import StoreError
from storage.layout import REPORT
from storage.store import open_store

logger = logging.getLogger("halosign")


@task(name="write report", cache_policy=NO_CACHE)
def write_run_report(store_url: str) -> None:
    """Write the report of a store into it; a failure is logged and costs the run nothing."""
    store = open_store(store_url)
    try:
        with tempfile.TemporaryDirectory(prefix="halosign-report-") as folder:
            page = Path(folder) / "store.html"
            report(store_url, page, pictures="none", workers=1, quiet=True)
            store.put(REPORT, page.read_bytes())
    except (StoreError, OSError) as error:
        logger.error("cannot write the report of the store: %s", error)
        return
    create_link_artifact(
        link=f"{store.link}/{REPORT}", link_text="Report of the store", key="report"
    )
