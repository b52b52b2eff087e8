"""The command line: `halosign`.

Exit codes: 0 success, 1 some nodules have invalid input or failed (all others are stored) or the
source is away (nothing is touched), 2 wrong usage or invalid input.
"""

import json
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from flows.cli import network
from flows.cli.commands import Commands
from flows.cli.options import RecipeOption, SetOption, StoreOption, chosen_recipe
from flows.cli.review import review
from flows.cli.table import table
from matting.errors import InputError
from storage.errors import CorruptionError, StoreError
from storage.sources.errors import SourceUnreachableError

# Commands import what they need when they run, so that `halosign --help` is fast.
if TYPE_CHECKING:
    from storage.sources.registry import SourceSpec
    from tasks.curation.context import CurationJob

INTERRUPTED = 130
"""The exit code by which shells report a command that Ctrl-C ended."""

CURATE, REVIEW, RELEASE, NETWORK, OPERATE = "Curate", "Review", "Release", "Network", "Operate"
"""Titles in the help, in the order in which they are used."""

app = Commands(
    pretty_exceptions_enable=False,
    help="From annotated CT scans to a released, versioned data set of 3D alpha mattes.",
)
release = Commands(help="Publish, verify, compare and export versions of the data set.")
store_commands = Commands(help="Maintain a store.")
app.add_typer(review, name="review", rich_help_panel=REVIEW)
app.add_typer(release, name="release", rich_help_panel=RELEASE)
app.add_typer(store_commands, name="store", rich_help_panel=OPERATE)

DicomOption = Annotated[
    Path | None, typer.Option("--dicom", help="Folder with LIDC-IDRI-xxxx folders of DICOM files.")
]
FilesOption = Annotated[
    Path | None,
    typer.Option("--files", help="CSV table of volumes and readers' masks (docs/sources.md)."),
]
PseudonymizeOption = Annotated[
    Path | None,
    typer.Option(
        "--pseudonymize",
        metavar="KEYFILE",
        help="With --files: replace ids by keyed hashes. The key is created if missing; the map of "
        "ids is written beside it. Keep both outside the store.",
    ),
]
PatientsOption = Annotated[
    str | None, typer.Option("--patients", help="Only these patients, comma-separated.")
]
NodulesOption = Annotated[
    str | None, typer.Option("--nodules", help="Only these nodules, comma-separated.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many nodules, the first by id.")
]


@app.command(rich_help_panel=CURATE, epilog="Example: halosign demo --out ./halosign-demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for scans, store and report.")] = Path(
        "halosign-demo"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 2,
) -> None:
    """Run the whole pipeline on synthetic CT with real LIDC annotations, and write a report."""
    from flows.cli.demo import run_demo

    raise typer.Exit(run_demo(out, workers))


@app.command(
    rich_help_panel=CURATE,
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

    for series in write_synthetic(dicom, _names(patients) or (), seed):
        typer.echo(f"synthetic scan: {series}")


@app.command(
    rich_help_panel=CURATE, epilog="Example: halosign plan --dicom ./dicom --store ./store"
)
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
) -> None:
    """Show what `curate` would compute and why, with estimates of time, size and memory."""
    from flows.cli.printing import plan_json, show_plan
    from storage.store import open_store, store_exists
    from tasks.curation.inventory import take_inventory
    from tasks.curation.plan import make_plan

    job = _curation_job(store, dicom, files, recipe, settings, pseudonymize)
    opened = open_store(store) if store_exists(store) else None
    inventory = take_inventory(job, _names(patients), _names(nodules), limit)
    made = make_plan(opened, job, inventory)
    if as_json:
        typer.echo(json.dumps(plan_json(made), indent=2))
    else:
        show_plan(made)


@app.command(
    rich_help_panel=CURATE,
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
    from flows.engine.logs import log_json
    from flows.engine.prefect_server import prefect_server
    from storage.store import open_store

    if sum(map(bool, (scheduler, workers, cluster))) > 1:
        raise typer.BadParameter(
            "use only one of --scheduler, --workers and --cluster: each of them selects the workers"
        )
    selected = load_cluster(cluster) if cluster else Cluster(scheduler, workers)
    if log_format == "json":
        log_json()
    job = _curation_job(store, dicom, files, recipe, settings, pseudonymize)
    open_store(store, create=True)
    with prefect_server():
        result = curate_flow(job, _names(patients), selected, _names(nodules), limit)
    show_result(result)
    if not result.aborted:
        typer.echo(
            f"next: halosign review serve --store {store}  "
            f"(or: halosign review auto --store {store})"
        )
    raise typer.Exit(0 if result.is_clean else 1)


@app.command(rich_help_panel=CURATE, epilog="Example: halosign status --store ./store --json")
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
    choices = Counter(row.choice for row in list_rows(opened, "done") if row.choice)
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


@app.command(
    "list",
    rich_help_panel=CURATE,
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


@app.command(
    rich_help_panel=CURATE,
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
) -> None:
    """Show the latest outcome of a nodule and, given a source, whether it would be recomputed."""
    from flows.cli.printing import show_why
    from storage.store import open_store

    job = None
    if dicom or files:
        job = _curation_job(store, dicom, files, recipe, settings, pseudonymize)
    show_why(open_store(store), nodule, job)


@store_commands.command("check", epilog="Example: halosign store check --store ./store")
def store_check(
    store: StoreOption,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move damaged files to quarantine/; nothing is deleted."),
    ] = False,
) -> None:
    """Read everything that a store holds, name every damaged file, and say what repairs it.

    Files are compared with their SHA-256; `halosign release verify` does so for one release.
    """
    from flows.cli.checking import check_store, repair_store
    from storage.store import open_store

    opened = open_store(store)
    complaints = check_store(opened)
    if repair and complaints:
        repair_store(opened, complaints)
    raise typer.Exit(1 if complaints else 0)


@store_commands.command(
    "gc",
    help="List (or, with --delete, remove) cases that nothing refers to and files that interrupted "
    "runs left incomplete. Keeps what is younger than --grace and whatever a curation may write.",
    epilog="Example: halosign store gc --store ./store --delete",
)
def store_gc(
    store: StoreOption,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Remove them; without this option they are only counted."),
    ] = False,
    grace: Annotated[
        str,
        typer.Option(help="Keep what was written within this time, e.g. 90m, 24h or 7d."),
    ] = "24h",
) -> None:
    """List or remove what nothing refers to."""
    from flows.cli.options import parse_duration
    from flows.cli.printing import show_garbage
    from storage.maintenance.gc import find_garbage, remove_garbage
    from storage.store import open_store

    kept_for = parse_duration(grace)
    opened = open_store(store)
    garbage = find_garbage(opened, kept_for)
    if delete:
        garbage = remove_garbage(opened, garbage, kept_for)
    show_garbage(garbage, kept_for, delete)


@release.command("publish", epilog="Example: halosign release publish 0.1.0 --store ./store")
def release_publish(
    version: Annotated[str, typer.Argument(help="New version, e.g. 0.1.0.")],
    store: StoreOption,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    publisher: Annotated[
        str, typer.Option(help="Name of the publisher, which the release shows.")
    ] = "unknown",
) -> None:
    """Publish the cases with a verdict as an immutable version, if they pass all checks."""
    from flows.cli.printing import warn_of_other_question, warn_of_unreachable
    from flows.engine.prefect_server import prefect_server
    from flows.publish import publish
    from storage.releases.release import check_version
    from storage.store import open_store

    # Wrong input is refused before a server is started.
    check_version(version)
    chosen = chosen_recipe(recipe, settings)
    opened = open_store(store)
    with prefect_server():
        manifest = publish(store, version, chosen, publisher).manifest
    nodules = len(manifest.members)
    files = len(manifest.case_files)
    typer.echo(f"published {version}: {nodules} nodules, {files} files; {manifest.form_name}")
    warn_of_other_question(manifest)
    warn_of_unreachable(opened, manifest)


@release.command("list", epilog="Example: halosign release list --store ./store")
def release_list(store: StoreOption) -> None:
    """List the published versions."""
    from flows.cli.printing import show_releases
    from storage.store import open_store

    show_releases(open_store(store))


@release.command("show", epilog="Example: halosign release show 0.1.0 --store ./store")
def release_show(
    version: Annotated[str, typer.Argument(help="Published version.")], store: StoreOption
) -> None:
    """Show the nodules of a release with their chosen mattes and splits."""
    from flows.cli.printing import show_release, warn_if_withdrawn
    from storage.releases.release import Release
    from storage.store import open_store

    opened = open_store(store)
    show_release(Release.open(opened, version).manifest)
    warn_if_withdrawn(opened, version)


@release.command("verify", epilog="Example: halosign release verify 0.1.0 --store ./store")
def release_verify(
    version: Annotated[str, typer.Argument(help="Published version.")], store: StoreOption
) -> None:
    """Verify every file of a release against its SHA-256."""
    from flows.cli.printing import warn_if_withdrawn
    from storage.releases.release import Release, verify_release
    from storage.store import open_store

    opened = open_store(store)
    complaints = verify_release(opened, version)
    warn_if_withdrawn(opened, version)
    for complaint in complaints:
        typer.echo(complaint)
    if complaints:
        raise typer.Exit(1)
    files = len(Release.open(opened, version).manifest.case_files)
    typer.echo(f"{version}: {files} case files and the release's own files verified")


@release.command(
    "withdraw",
    epilog="Example: halosign release withdraw 0.1.0 --store ./store --reason mislabelled --by ann",
)
def release_withdraw(
    version: Annotated[str, typer.Argument(help="Published version.")],
    store: StoreOption,
    reason: Annotated[str, typer.Option(help="Why it must not be used; stored permanently.")],
    by: Annotated[
        str,
        typer.Option(help="Who withdraws it; required where $USER is not set.", envvar="USER"),
    ] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; required without a terminal.")
    ] = False,
) -> None:
    """Mark a release as withdrawn, after asking: it cannot be undone.

    Its files are kept, and its version is never reused.
    """
    from storage.releases.release import check_withdrawal, withdraw_release
    from storage.store import open_store

    opened = open_store(store)
    check_withdrawal(opened, version, reason, by=by)
    if not yes:
        _confirm(f"withdraw {version} of {opened.url} as {by}, because: {reason}")
    typer.echo(str(withdraw_release(opened, version, reason, by=by)))


@release.command("diff", epilog="Example: halosign release diff 0.1.0 0.2.0 --store ./store")
def release_diff(
    before: Annotated[str, typer.Argument(help="Published version.")],
    after: Annotated[str, typer.Argument(help="Version to compare with.")],
    store: StoreOption,
) -> None:
    """List the nodules that were added, removed or changed between two releases, and why."""
    from storage.releases.diff import describe, diff_releases
    from storage.releases.release import Release
    from storage.store import open_store

    opened = open_store(store)
    old, new = (Release.open(opened, version).manifest for version in (before, after))
    for line in describe(diff_releases(opened, old, new)):
        typer.echo(line)


@release.command(
    "export",
    epilog="Example: halosign release export 0.1.0 --store ./store --format nifti --to ./export",
)
def release_export(
    version: Annotated[str, typer.Argument(help="Published version.")],
    store: StoreOption,
    format_: Annotated[str, typer.Option("--format", help="zarr, nifti, npz or dicom-seg.")],
    to: Annotated[
        Path,
        typer.Option("--to", help="New folder, or one with an incomplete export of the same kind."),
    ],
    dicom: Annotated[
        Path | None, typer.Option("--dicom", help="The curated scans, which dicom-seg refers to.")
    ] = None,
) -> None:
    """Export a release to files that other software reads. Run it again to resume."""
    from flows.export import export

    typer.echo(
        f"{to}: {export(store, version, format_, to, dicom)} files, checksums in checksums.sha256"
    )


@release.command(
    "reproduce", epilog="Example: halosign release reproduce 0.1.0 --store ./store --dicom ./dicom"
)
def release_reproduce(
    version: Annotated[str, typer.Argument(help="Published version.")],
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    pseudonymize: PseudonymizeOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="Store to compute into and keep.", show_default="a temporary store"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of local worker processes.", show_default="one per core"),
    ] = None,
) -> None:
    """Recompute a release with its own recipe and compare every byte with what was published."""
    from flows.cli.printing import show_reproduction
    from flows.engine.cluster import Cluster
    from flows.reproduce import reproduce

    source = _source(dicom, files, pseudonymize, store)
    reproductions = reproduce(store, version, source, to, Cluster(workers=workers))
    show_reproduction(version, reproductions)
    raise typer.Exit(1 if any(one.difference for one in reproductions) else 0)


network.register(app, NETWORK)
app.command(rich_help_panel=CURATE, epilog="Example: halosign table ./LNDb --out ./TABLE.csv")(
    table
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"halosign {version('halosign')}")
        raise typer.Exit


@app.callback()
def options(
    wants_version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options of the application itself."""


def main() -> NoReturn:
    """Run the command line.

    An error in usage or input ends with exit code 2 and one message, without a traceback; a
    source that is away with exit code 1, since the same command works when it is back.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # The terminal shows our own progress and summary; the engine's chatter stays one setting away.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    try:
        app()
    except (InputError, StoreError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1 if isinstance(error, SourceUnreachableError) else 2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.secho(
                "interrupted: stored cases are kept. Run the same command again to resume.",
                fg="yellow",
                err=True,
            )
        raise
    sys.exit(0)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _confirm(action: str) -> None:
    """Ask before something that cannot be undone; ends the command unless the answer is yes."""
    if not sys.stdin.isatty():
        raise InputError(
            "a command that cannot be undone needs a confirmation",
            got="no terminal to ask at",
            expected="an answer, or --yes",
            remedy="Run it in a terminal, or add --yes.",
        )
    typer.confirm(f"This cannot be undone: {action}. Go on?", abort=True)


def _names(text: str | None) -> frozenset[str] | None:
    return frozenset(name.strip() for name in text.split(",") if name.strip()) if text else None


def _curation_job(
    store: str,
    dicom: Path | None,
    files: Path | None,
    recipe: str | None,
    settings: list[str] | None,
    pseudonymize: Path | None,
) -> "CurationJob":
    from tasks.curation.context import CurationJob

    source = _source(dicom, files, pseudonymize, store)
    return CurationJob(source, store, chosen_recipe(recipe, settings))


def _source(
    dicom: Path | None, files: Path | None, pseudonymize: Path | None, store: str
) -> "SourceSpec":
    from storage.sources.pseudonyms import create_key, map_file
    from storage.sources.registry import SourceSpec, check_reachable

    if (dicom is None) == (files is None):
        raise typer.BadParameter(
            "exactly one source is required: --dicom FOLDER or --files TABLE.csv"
        )
    if dicom and pseudonymize:
        raise typer.BadParameter(
            "--pseudonymize replaces the ids of a table: use it with --files. LIDC's are public"
        )
    source = (
        SourceSpec("lidc", str(dicom.resolve()))
        if dicom
        else SourceSpec(
            "files",
            str(Path(files or "").resolve()),
            str(pseudonymize.resolve()) if pseudonymize else "",
        )
    )
    check_reachable(source)
    if pseudonymize and create_key(pseudonymize, store):
        typer.echo(
            f"new key {pseudonymize}; the map of ids will be in {map_file(pseudonymize)}. Keep "
            "both: without the key the same ids get other pseudonyms.",
            err=True,
        )
    return source
