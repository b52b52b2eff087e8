"""The commands of curation: plan, compute, list and explain the cases of a store."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.commands import Commands
from flows.cli.options import (
    DicomOption,
    FilesOption,
    NodulesOption,
    PatientsOption,
    PseudonymizeOption,
    RecipeOption,
    SetOption,
    StoreOption,
    XmlOption,
    chosen_recipe,
    chosen_source,
    parse_names,
)
from flows.cli.table import table
from storage.errors import CorruptionError

if TYPE_CHECKING:
    from tasks.curation.context import CurationJob

curation = Commands(section="Curate")

LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many nodules, the first by id.")
]


@curation.command(
    kept="finished nodules are stored",
    epilog="Example: halosign demo --out ./halosign-demo",
)
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for scans, store and report.")] = Path(
        "halosign-demo"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 2,
) -> None:
    """Run the whole pipeline on synthetic CT with real LIDC annotations, and write a report."""
    from flows.cli.demo import run_demo

    raise typer.Exit(run_demo(out, workers))


@curation.command(
    kept="scans that were written are complete",
    epilog="Example: halosign synthesize --dicom ./dicom --patients LIDC-IDRI-0078,LIDC-IDRI-0100",
)
def synthesize(
    dicom: Annotated[Path, typer.Option("--dicom", help="Folder to write to.")],
    patients: Annotated[
        str, typer.Option("--patients", help="LIDC-IDRI patient ids, comma-separated.")
    ],
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the simulation; another seed gives other scans of the same nodules."
        ),
    ] = 20221011,
) -> None:
    """Write synthetic DICOM scans: simulated CT with known alpha, at real LIDC annotations."""
    from storage.sources.synthetic import write_synthetic

    for series in write_synthetic(dicom, parse_names(patients) or (), seed):
        typer.echo(f"synthetic scan: {series}")


@curation.command(epilog="Example: halosign plan --dicom ./dicom --store ./store")
def plan(
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    patients: PatientsOption = None,
    nodules: NodulesOption = None,
    limit: LimitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    pseudonymize: PseudonymizeOption = None,
    xml: XmlOption = None,
) -> None:
    """Show what `curate` would compute and why, with estimates of time, size and memory."""
    from flows.cli.printing import plan_json, show_plan
    from storage.store import open_store, store_exists
    from tasks.curation.inventory import take_inventory
    from tasks.curation.plan import make_plan

    wanted = (parse_names(patients), parse_names(nodules), limit)
    job = _curation_job(store, dicom, files, recipe, settings, pseudonymize, xml)
    opened = open_store(store) if store_exists(store) else None
    inventory = take_inventory(job, *wanted)
    made = make_plan(opened, job, inventory)
    if as_json:
        typer.echo(json.dumps(plan_json(made), indent=2))
    else:
        from flows.engine.cluster import count_workers

        show_plan(made, count_workers(made.expected_peak_bytes))


@curation.command(
    kept="finished nodules are stored",
    epilog="Example: halosign curate --dicom ./dicom --store ./store --workers 2",
)
def curate(
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    patients: PatientsOption = None,
    nodules: NodulesOption = None,
    limit: LimitOption = None,
    pseudonymize: PseudonymizeOption = None,
    xml: XmlOption = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a running Dask scheduler, e.g. tcp://host:8786.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of local worker processes.", show_default="one per core"),
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="YAML file that describes a Dask cluster (docs/cluster.md).")
    ] = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Do not write reports/store.html into the store.")
    ] = False,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            envvar="HALOSIGN_LOG_FORMAT",
            help="A progress bar, or one JSON line per event on stderr.",
        ),
    ] = "text",
) -> None:
    """Bring a store up to date: compute the missing cases. Run it again to resume."""
    from flows.cli.printing import show_result
    from flows.curate import curate as curate_flow
    from flows.engine.cluster import Cluster, load_cluster
    from flows.engine.logs import log_json, log_text
    from flows.engine.prefect_server import prefect_server
    from storage.store import open_store

    if sum(map(bool, (scheduler, workers, cluster))) > 1:
        raise typer.BadParameter(
            "use only one of --scheduler, --workers and --cluster: each of them selects the workers"
        )
    chosen_patients = parse_names(patients)
    chosen_nodules = parse_names(nodules)
    selected = load_cluster(cluster) if cluster else Cluster(scheduler, workers)
    (log_json if log_format == "json" else log_text)()
    job = _curation_job(store, dicom, files, recipe, settings, pseudonymize, xml)
    open_store(store, create=True)
    with prefect_server():
        result = curate_flow(
            job, chosen_patients, selected, chosen_nodules, limit, report=not no_report
        )
    show_result(result)
    if not result.aborted:
        typer.echo(
            f"next: halosign review serve --store {store}  "
            f"(or: halosign review auto --store {store})"
        )
    raise typer.Exit(0 if result.is_clean else 1)


@curation.command(epilog="Example: halosign status --store ./store --json")
def status(
    store: StoreOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the number of nodules by state, why nodules are not done, and how the last run went."""
    from collections import Counter

    from flows.cli.printing import StoreStatus, show_status, status_json
    from storage.cases.outcomes import read_outcomes
    from storage.cases.runs import find_last_run
    from storage.releases.release import list_versions
    from storage.reviews.listing import list_rows
    from storage.store import open_store

    opened = open_store(store)
    outcomes = [outcome.brief for outcome in read_outcomes(opened)]
    choices = Counter(row.choice for row in list_rows(opened, "done", outcomes) if row.choice)
    last_run = None
    try:
        last_run = find_last_run(opened)
    except CorruptionError as error:
        typer.echo(f"the last run is not shown: {error}", err=True)
    status = StoreStatus(
        outcomes, last_run, dict(choices.most_common()), tuple(list_versions(opened))
    )
    if as_json:
        typer.echo(json.dumps(status_json(status), indent=2))
    else:
        show_status(status)


@curation.command(
    "list",
    epilog="Example: halosign list --store ./store --state excluded --csv",
)
def list_nodules(
    store: StoreOption,
    state: Annotated[
        str | None,
        typer.Option(help="Only nodules of this state: done, invalid, failed or excluded."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """List every nodule of a store: state, digest, chosen matte, size and time."""
    from flows.cli.listing import Layout, print_rows
    from storage.reviews.listing import list_rows
    from storage.store import open_store

    if as_json and as_csv:
        raise typer.BadParameter("use only one of --json and --csv")
    layout: Layout = "json" if as_json else "csv" if as_csv else "table"
    print_rows(list_rows(open_store(store), state), layout)


@curation.command(
    epilog="Example: halosign why LIDC-IDRI-0078-a0123 --store ./store --dicom ./dicom",
)
def why(
    nodule: Annotated[str, typer.Argument(help="Nodule id, e.g. LIDC-IDRI-0078-a0123.")],
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    pseudonymize: PseudonymizeOption = None,
    xml: XmlOption = None,
) -> None:
    """Show the latest outcome of a nodule and, given a source, whether it would be recomputed."""
    from flows.cli.printing import show_why
    from storage.store import open_store

    job = None
    if dicom or files:
        job = _curation_job(store, dicom, files, recipe, settings, pseudonymize, xml)
    show_why(open_store(store), nodule, job)


@curation.command(epilog="Example: halosign report --store ./store --out ./report.html")
def report(
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", help="File to write; it ends in .html.")],
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            help="Published version to report as released.",
            show_default="the nodules of the store as they are now",
        ),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            help="inside the page, linked (a page for each nodule in the folder OUT.d), or none.",
            show_default="inside up to 60 nodules, then linked",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of drawing processes.", show_default="one per core"),
    ] = None,
) -> None:
    """Write a page with every nodule, its pictures, the reasons of those without, and times."""
    from typing import cast

    from flows.report import report as write
    from qc.report.entries import Pictures

    write(store, out, release, pictures=cast("Pictures | None", pictures), workers=workers)
    folder = out.with_name(f"{out.name}.d")
    typer.echo(f"{out}: {out.stat().st_size / 1e6:,.1f} MB" + f", and {folder}" * folder.is_dir())


@curation.command(epilog="Example: halosign view LIDC-IDRI-0078-a0123 --store ./store")
def view(
    nodule: Annotated[str, typer.Argument(help="Nodule id, e.g. LIDC-IDRI-0078-a0123.")],
    store: StoreOption,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Write NIfTI files there, for 3D Slicer and other viewers."),
    ] = None,
) -> None:
    """Open a nodule in napari, if it is installed: CT, trimap, readers and every matte."""
    from flows.view import view as open_viewer

    files = open_viewer(store, nodule, to)
    if to:
        typer.echo(f"{to}: {files} files; drag them into 3D Slicer")


curation.command(epilog="Example: halosign table ./LNDb --out ./TABLE.csv")(table)


def _curation_job(
    store: str,
    dicom: Path | None,
    files: Path | None,
    recipe: str | None,
    settings: list[str] | None,
    pseudonymize: Path | None,
    xml: Path | None,
) -> "CurationJob":
    from tasks.curation.context import CurationJob

    source = chosen_source(dicom, files, pseudonymize, xml, store)
    return CurationJob(source, store, chosen_recipe(recipe, settings))
