"""Reporting: what a store or a release holds, as one page of HTML."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from rich.progress import track

from flows.engine.console import console
from matting import METHODS
from matting.errors import InputError
from matting.targets import Target, target_of
from qc.report.build import write_report
from qc.report.entries import DrawnEntry, Entry, Pictures
from qc.report.page import ReleaseFacts, RunSummary
from storage.cases.outcomes import map_concurrently
from storage.cases.runs import find_last_run
from storage.errors import CorruptionError
from storage.records import to_the_second
from storage.releases.release import Release
from storage.reviews.listing import list_rows
from storage.store import Store, open_store

FEW = 8
"""Nodules that one process has drawn before others have started."""


def report(
    store_url: str,
    out: Path,
    version: str | None = None,
    *,
    pictures: Pictures | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> None:
    """Write the report of a store, or of one of its releases.

    Args:
        store_url: Folder or URL of the store, which is only read.
        out: The file to write, ``.html``.
        version: A published version; None for the nodules of the store as they are now.
        pictures: Where they are; None for what suits the number of nodules.
        workers: Number of processes that draw; None for one per core.
        quiet: Whether no progress is shown.

    Raises:
        InputError: `out` is no name of a page, or there is no such store, version or choice of
            pictures.
        CorruptionError: The manifest of the release is damaged.
    """
    if out.suffix.lower() not in {".html", ".htm"}:
        raise InputError(
            "a report is a page of HTML",
            got=out,
            expected="a file that ends in .html",
            remedy="Give another --out.",
        )
    if pictures is not None and pictures not in get_args(Pictures):
        raise InputError(
            "pictures cannot be placed there",
            got=pictures,
            expected=", ".join(get_args(Pictures)),
            remedy="Use one of these.",
        )
    store = open_store(store_url)
    workers = workers or len(os.sched_getaffinity(0))
    draw = partial(_draw_all, workers=workers, quiet=quiet, pictures=pictures)
    if version is not None:
        release = Release.open(store, version)
        write_report(
            store,
            out,
            title=f"Halosign release {version}",
            run=None,
            manifest=release.manifest,
            release=_release_facts(release),
            target=release.manifest.target
            or _target_of(m.method for m in release.members.values()),
            pictures=pictures,
            map_entries=draw,
        )
        return
    picks = {row.nodule: row.choice for row in list_rows(store, "done") if row.choice}
    write_report(
        store,
        out,
        title="Halosign store",
        run=_last_run(store),
        picks=picks,
        target=_target_of(picks.values()),
        pictures=pictures,
        map_entries=draw,
    )


def _draw_all(
    draw: Callable[[Entry], DrawnEntry],
    entries: Sequence[Entry],
    workers: int,
    quiet: bool,
    pictures: Pictures | None,
) -> Iterable[DrawnEntry]:
    """Draw nodules in several processes, in their order."""
    progress = partial(
        track, description="drawing", total=len(entries), console=console, disable=quiet
    )
    if workers == 1 or len(entries) <= FEW:
        # Without pictures, one process mostly waits for the store. Drawing is for one thread only.
        several = map_concurrently if pictures == "none" else map
        yield from progress(several(draw, entries))
        return
    # A forked process would inherit the threads of the stores' client.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from progress(pool.map(draw, entries))


def _release_facts(release: Release) -> ReleaseFacts:
    members = release.members.values()
    withdrawal = release.find_withdrawal()
    return ReleaseFacts(
        release.version,
        Counter(member.split for member in members),
        Counter(split for _, split in {(m.patient_id, m.split) for m in members}),
        withdrawal=str(withdrawal) if withdrawal else "",
    )


def _target_of(picks: Iterable[str]) -> Target:
    """Return the question that most picks answer."""
    answered: Counter[Target] = Counter(target_of(pick) for pick in picks if pick in METHODS)
    return answered.most_common(1)[0][0] if answered else "density"


def _last_run(store: Store) -> RunSummary | None:
    try:
        run = find_last_run(store)
    except CorruptionError as error:
        console.print(f"the last run is not shown: {error}", markup=False)
        return None
    if run is None:
        return None
    ending = run.stopped or ("running, or killed" if run.ending == "none" else "")
    return RunSummary(to_the_second(run.started), run.wall_s, None, store.url, run.recipe, ending)
