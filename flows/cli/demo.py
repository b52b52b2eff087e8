"""The whole pipeline on one machine: synthetic scans -> curate -> release -> train -> report."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import track

from flows.cli.printing import show_result
from flows.curate import curate
from flows.engine.cluster import Cluster
from flows.engine.console import console
from flows.engine.prefect_server import prefect_server
from flows.publish import publish
from matting import METHODS
from matting.targets import Target
from qc.report.build import write_report
from qc.report.errors import form_table
from qc.report.page import FormTable, ReleaseFacts, RunSummary, TrainingFacts
from qc.report.training import training_facts
from storage.cases.case import read_case
from storage.cases.outcomes import read_outcomes
from storage.recipe import load_recipe
from storage.records import Member
from storage.releases.release import Release, is_published
from storage.releases.verify import verify_release
from storage.results.checkpoints import checkpoint_prefix, read_checkpoint, read_last_preview
from storage.results.scores import METHOD_SCORES, read_lines
from storage.sources.registry import SourceSpec
from storage.sources.synthetic import DEMO_PATIENTS, write_synthetic
from storage.store import Store, open_store
from tasks.auto_select import pick_automatically
from tasks.compare_forms import errors_of_recipe
from tasks.curation.context import CurationJob

SEED = 20221011
VERSION = "0.1.0"
REPORT, NETWORK = "report.html", "network.html"


def run_demo(out: Path, workers: int) -> int:
    """Run the pipeline on synthetic scans; a second call resumes an interrupted one.

    Args:
        out: Folder for ``dicom/``, ``store/``, ``report.html`` and ``network.html``.
        workers: Number of worker processes.

    Returns:
        The exit code.
    """
    # Importing torch is slow, and the worker processes that import this module do not need it.
    from flows.train import train

    started = datetime.now(UTC)
    begin = time.monotonic()
    dicom = out / "dicom"
    store_url = str(out / "store")
    job = CurationJob(SourceSpec("lidc", str(dicom.resolve())), store_url, load_recipe("demo"))
    console.print(
        f"[1/7] synthesize scans of {len(DEMO_PATIENTS)} LIDC-IDRI patients: "
        "real annotations, simulated CT"
    )
    write_synthetic(dicom, DEMO_PATIENTS, SEED)
    store = open_store(store_url, create=True)
    with prefect_server():
        console.print("[2/7] curate: crop, resample, trimap, eight mattes, Zarr case")
        result = curate(job, cluster=Cluster(workers=workers))
        show_result(result)
        console.print("[3/7] choose mattes automatically")
        pick_automatically(store, job.recipe.review.target)
        console.print(f"[4/7] publish release {VERSION}")
        if not is_published(store, VERSION):
            publish(store_url, VERSION, job.recipe, "halosign demo")
        console.print("[5/7] train 3DMM-MG for a minute and score it")
        network = train(store_url, VERSION, recipe="demo", device="cpu")
    console.print("[6/7] estimate the improved form too, to compare the errors of both")
    forms = _compare_forms(store)
    console.print("[7/7] verify the release and write the report")
    complaints = verify_release(store, VERSION)
    run = RunSummary(
        started.isoformat(timespec="seconds"),
        time.monotonic() - begin,
        workers,
        store_url,
        job.recipe.name,
    )
    members = Release.open(store, VERSION).members
    target = job.recipe.review.target
    _write_report(store, out, run, members, forms, target, verified=not complaints)
    _write_network_page(store, out, network)
    _print_next_steps(out, min(members), complaints)
    return 0 if result.is_clean and not complaints else 1


def _write_network_page(store: Store, out: Path, digest: str) -> None:
    """Write the network's page: a minute of training shows that the pipeline works, and no more."""
    write_report(
        store,
        out / NETWORK,
        title="Halosign demo: the network",
        run=None,
        training=_training(store, digest),
        pictures="none",
    )


def _training(store: Store, digest: str) -> TrainingFacts:
    checkpoint = read_checkpoint(f"{store.url}/{checkpoint_prefix(digest)}")
    curves, samples = read_last_preview(store, checkpoint)
    lines = read_lines(store, VERSION, "test", digest, METHOD_SCORES)
    return training_facts(
        checkpoint, lines, curves=curves, samples=samples, truth="known", region="near"
    )


def _write_report(
    store: Store,
    out: Path,
    run: RunSummary,
    members: Mapping[str, Member],
    forms: FormTable | None,
    target: Target,
    *,
    verified: bool,
) -> None:
    picks = {nodule_id: member.method for nodule_id, member in members.items()}
    nodules = Counter(member.split for member in members.values())
    patients = Counter(split for _, split in {(m.patient_id, m.split) for m in members.values()})
    release = ReleaseFacts(VERSION, nodules, patients, verified)
    write_report(
        store,
        out / REPORT,
        title="Halosign demo",
        run=run,
        picks=picks,
        release=release,
        forms=forms,
        target=target,
    )


def _compare_forms(store: Store) -> FormTable | None:
    """Return the errors of the stored form and of the improved one, over the same nodules."""
    improved = load_recipe("improved")
    finished = [o for o in read_outcomes(store) if o.state == "done" and o.digest]
    cases = [read_case(store, o.nodule_id, str(o.digest)) for o in finished]
    measured = [case for case in cases if case.facts.errors]
    stored = [dict(case.facts.errors or {}) for case in measured]
    progress = track(measured, "improved form", console=console, transient=True)
    return form_table(
        {"paper": stored, "improved": [errors_of_recipe(case, improved) for case in progress]},
        METHODS,
    )


def _print_next_steps(out: Path, nodule_id: str, complaints: list[str]) -> None:
    store = out / "store"
    for complaint in complaints:
        console.print(complaint, markup=False)
    if shutil.which("halosign") is None:
        console.print(f"\nfirst  export PATH={Path(sys.executable).parent}:$PATH")
    console.print(
        f"""
open   {out / REPORT}
       {out / NETWORK}                     (the network, trained for a minute)
look   halosign status --store {store}
       halosign release show {VERSION} --store {store}
       halosign why {nodule_id} --store {store} \\
           --dicom {out / "dicom"} --recipe demo
next   halosign curate --dicom FOLDER_OF_LIDC_IDRI --store ./store        (real scans)
       halosign curate --files TABLE.csv --store ./store                  (your own)"""
    )
