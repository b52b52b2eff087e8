"""The command line: `halosign`.

Exit codes: 0 done, 1 some nodules failed (the rest is safe), 2 wrong use or refused input.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from flows.cli import network
from flows.cli.options import StoreOption
from flows.cli.review import review
from matting.errors import InputError
from storage.errors import StoreError

# What a command needs is loaded when it runs: `halosign --help` answers at once.
if TYPE_CHECKING:
    from storage.sources.registry import SourceSpec
    from tasks.curation.context import CurationJob

INTERRUPTED = 130
"""The shell's convention for a command that Ctrl-C ended."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From annotated CT scans to a released, versioned data set of 3D alpha mattes.",
)
release = typer.Typer(no_args_is_help=True, help="Publish and check versions of the data set.")
store_commands = typer.Typer(no_args_is_help=True, help="Look after a store.")
app.add_typer(store_commands, name="store")
app.add_typer(review, name="review")
app.add_typer(release, name="release")

RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="YAML file, or `paper` or `demo`; the paper's when left out."),
]
DicomOption = Annotated[
    Path | None, typer.Option("--dicom", help="Folder that holds LIDC-IDRI-xxxx folders of DICOM.")
]
FilesOption = Annotated[
    Path | None, typer.Option("--files", help="CSV table of volumes and readers' masks.")
]
PatientsOption = Annotated[
    str | None, typer.Option("--patients", help="Only these, separated by commas.")
]


@app.command(epilog="Example: halosign demo --out ./halosign-demo")
def demo(
    out: Annotated[
        Path, typer.Option("--out", help="New folder for scans, store and report.")
    ] = Path("halosign-demo"),
    workers: Annotated[int, typer.Option(min=1, help="Processes to curate with.")] = 2,
) -> None:
    """Run the whole job on LIDC's real annotations with stand-in CT, and write a report to look at."""
    from flows.cli.demo import run_demo

    raise typer.Exit(run_demo(out, workers))


@app.command(
    epilog="Example: halosign standin --dicom ./dicom --patients LIDC-IDRI-0078,LIDC-IDRI-0100"
)
def standin(
    dicom: Annotated[Path, typer.Option("--dicom", help="Folder to write into.")],
    patients: Annotated[
        str, typer.Option("--patients", help="LIDC patients, separated by commas.")
    ],
    seed: Annotated[
        int, typer.Option(help="Another seed gives other scans of the same nodules.")
    ] = 20221011,
) -> None:
    """Write stand-in DICOM: real LIDC annotations, simulated CT, known alpha."""
    from storage.sources.synthetic import write_synthetic

    for series in write_synthetic(dicom, _names(patients) or (), seed):
        typer.echo(f"stand-in data: {series}")


@app.command(epilog="Example: halosign plan --dicom ./dicom --store ./store")
def plan(
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    recipe: RecipeOption = None,
    patients: PatientsOption = None,
) -> None:
    """Say what would run and why, and what it would cost; runs nothing."""
    from flows.cli.printing import show_plan
    from storage.store import open_store, store_exists
    from tasks.curation.plan import make_plan
    from tasks.curation.survey import survey_source

    order = _order(store, dicom, files, recipe)
    known = open_store(store) if store_exists(store) else None
    show_plan(make_plan(known, order, survey_source(order, _names(patients))))


@app.command(epilog="Example: halosign curate --dicom ./dicom --store ./store --workers 2")
def curate(
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    recipe: RecipeOption = None,
    patients: PatientsOption = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler, e.g. tcp://host:8786.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local processes; one a core when left out.")
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="YAML file of a Dask cluster: docs/cluster.md.")
    ] = None,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            envvar="HALOSIGN_LOG_FORMAT",
            help="A bar for people, or one JSON line an event on stderr.",
        ),
    ] = "text",
) -> None:
    """Bring a store up to date: compute what is missing, keep what is done. Run it again to resume."""
    from flows.cli.printing import show_result
    from flows.curate import curate as curate_flow
    from flows.engine.cluster import Cluster, load_cluster
    from flows.engine.logs import log_json
    from flows.engine.prefect_server import prefect_server
    from storage.store import open_store

    if sum(map(bool, (scheduler, workers, cluster))) > 1:
        raise typer.BadParameter(
            "give one of --scheduler, --workers and --cluster: each says where the workers are"
        )
    where = load_cluster(cluster) if cluster else Cluster(scheduler, workers)
    if log_format == "json":
        log_json()
    order = _order(store, dicom, files, recipe)
    open_store(store, create=True)
    with prefect_server():
        result = curate_flow(order, _names(patients), where)
    show_result(result)
    if not result.stopped:
        typer.echo(
            f"next: halosign review serve --store {store}  (or: halosign review auto --store {store})"
        )
    raise typer.Exit(0 if result.is_clean else 1)


@app.command(epilog="Example: halosign status --store ./store --json")
def status(
    store: StoreOption,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Count nodules by state, with the reasons of refusals and failures, and say how the last run went."""
    from flows.cli.printing import show_status, status_facts
    from storage.cases.outcomes import read_outcomes
    from storage.cases.runs import last_run
    from storage.store import open_store

    opened = open_store(store)
    facts = status_facts([outcome.brief for outcome in read_outcomes(opened)], last_run(opened))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        show_status(facts)


@app.command(epilog="Example: halosign why LIDC-IDRI-0078-a0123 --store ./store --dicom ./dicom")
def why(
    nodule: Annotated[str, typer.Argument(help="Nodule id, e.g. LIDC-IDRI-0078-a0123.")],
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    recipe: RecipeOption = None,
) -> None:
    """Say what the store knows of a nodule and, given a source, whether it would be recomputed."""
    from flows.cli.printing import show_why
    from storage.store import open_store

    order = _order(store, dicom, files, recipe) if dicom or files else None
    show_why(open_store(store), nodule, order)


@app.command(epilog="Example: halosign gc --store ./store")
def gc(
    store: StoreOption,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove it; without this it is only listed.")
    ] = False,
) -> None:
    """Find rubbish: what killed runs left half written and cases that nothing refers to."""
    from flows.cli.printing import show_rubbish
    from storage.maintenance.gc import find_garbage, remove_garbage
    from storage.store import open_store

    opened = open_store(store)
    rubbish = find_garbage(opened)
    if delete:
        remove_garbage(opened, rubbish)
    show_rubbish(rubbish, delete)


@store_commands.command("check", epilog="Example: halosign store check --store ./store")
def store_check(store: StoreOption) -> None:
    """Read every file of every finished case and compare it with its mark. Mends nothing, says what would."""
    from rich.console import Console
    from rich.progress import track

    from flows.cli.printing import console
    from storage.maintenance.verify import nodules_to_verify, verify_nodules
    from storage.store import open_store

    opened = open_store(store)
    nodules = nodules_to_verify(opened)
    checked = track(
        verify_nodules(opened, nodules), "checking", len(nodules), console=Console(stderr=True)
    )
    complaints = [complaint for found in checked for complaint in found]
    for complaint in complaints:
        console.print(str(complaint), markup=False)
    console.print(
        f"{len(nodules)} nodules checked, {len({c.nodule_id for c in complaints})} damaged"
    )
    raise typer.Exit(1 if complaints else 0)


@release.command("publish", epilog="Example: halosign release publish 0.1.0 --store ./store")
def release_publish(
    version: Annotated[str, typer.Argument(help="A new version, e.g. 0.1.0.")],
    store: StoreOption,
    recipe: RecipeOption = None,
    publisher: Annotated[str, typer.Option(help="Who publishes.", envvar="USER")] = "unknown",
) -> None:
    """Publish the decided cases as an immutable version, if every gate is passed."""
    from flows.engine.prefect_server import prefect_server
    from flows.publish import publish
    from storage.recipe import load_recipe
    from storage.store import open_store

    open_store(store)
    with prefect_server():
        manifest = publish(store, version, load_recipe(recipe), publisher)
    typer.echo(
        f"published {version}: {len(manifest['nodules'])} nodules, {len(manifest['case_files'])} files"
    )


@release.command("list", epilog="Example: halosign release list --store ./store")
def release_list(store: StoreOption) -> None:
    """List the published versions."""
    from flows.cli.printing import show_releases
    from storage.store import open_store

    show_releases(open_store(store))


@release.command("show", epilog="Example: halosign release show 0.1.0 --store ./store")
def release_show(
    version: Annotated[str, typer.Argument(help="A published version.")], store: StoreOption
) -> None:
    """Show a release's nodules, chosen mattes and splits."""
    from flows.cli.printing import show_release, warn_if_withdrawn
    from storage.releases.release import read_release
    from storage.store import open_store

    opened = open_store(store)
    show_release(read_release(opened, version))
    warn_if_withdrawn(opened, version)


@release.command("verify", epilog="Example: halosign release verify 0.1.0 --store ./store")
def release_verify(
    version: Annotated[str, typer.Argument(help="A published version.")], store: StoreOption
) -> None:
    """Read every file of a release and compare it with its SHA-256."""
    from flows.cli.printing import warn_if_withdrawn
    from storage.releases.release import read_release, verify_release
    from storage.store import open_store

    opened = open_store(store)
    complaints = verify_release(opened, version)
    warn_if_withdrawn(opened, version)
    for complaint in complaints:
        typer.echo(complaint)
    if complaints:
        raise typer.Exit(1)
    typer.echo(
        f"{version}: {len(read_release(opened, version)['case_files'])} files of cases and its own are as published"
    )


@release.command(
    "withdraw",
    epilog="Example: halosign release withdraw 0.1.0 --store ./store --reason mislabelled",
)
def release_withdraw(
    version: Annotated[str, typer.Argument(help="A published version.")],
    store: StoreOption,
    reason: Annotated[
        str, typer.Option(help="Why it should not be used any more; stored for good.")
    ],
    by: Annotated[str, typer.Option(help="Who withdraws it.", envvar="USER")] = "unknown",
) -> None:
    """Mark a release as not to be used any more. Its files stay, its version is never used again."""
    from storage.releases.release import withdraw_release
    from storage.store import open_store

    typer.echo(str(withdraw_release(open_store(store), version, reason, by=by)))


@release.command("diff", epilog="Example: halosign release diff 0.1.0 0.2.0 --store ./store")
def release_diff(
    before: Annotated[str, typer.Argument(help="A published version.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    store: StoreOption,
) -> None:
    """Say which nodules were added, removed or changed, and why."""
    from storage.releases.diff import Contents, describe, diff_releases
    from storage.releases.release import read_release
    from storage.store import open_store

    opened = open_store(store)
    old, new = (Contents.of(read_release(opened, version)) for version in (before, after))
    for line in describe(diff_releases(opened, old, new)):
        typer.echo(line)


@release.command(
    "export",
    epilog="Example: halosign release export 0.1.0 --store ./store --format nifti --to ./export",
)
def release_export(
    version: Annotated[str, typer.Argument(help="A published version.")],
    store: StoreOption,
    format_: Annotated[str, typer.Option("--format", help="zarr, nifti, npz or dicom-seg.")],
    to: Annotated[
        Path, typer.Option("--to", help="New folder to write into, or one that was begun.")
    ],
    dicom: Annotated[
        Path | None, typer.Option("--dicom", help="The curated scans; dicom-seg refers to them.")
    ] = None,
) -> None:
    """Write a release as files that need nothing of ours. Run it again to resume."""
    from flows.export import export

    typer.echo(
        f"{to}: {export(store, version, format_, to, dicom)} files, sums in checksums.sha256"
    )


@release.command(
    "reproduce", epilog="Example: halosign release reproduce 0.1.0 --store ./store --dicom ./dicom"
)
def release_reproduce(
    version: Annotated[str, typer.Argument(help="A published version.")],
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Store to compute into and keep; else a scratch one.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local processes; one a core when left out.")
    ] = None,
) -> None:
    """Compute a release anew with its own recipe and compare every byte with what was published."""
    from flows.cli.printing import show_reproduction
    from flows.engine.cluster import Cluster
    from flows.reproduce import reproduce

    found = reproduce(store, version, _source(dicom, files), to, Cluster(workers=workers))
    show_reproduction(version, found)
    raise typer.Exit(1 if any(one.difference for one in found) else 0)


# Last, as it comes last on the data's way
network.register(app)


def main() -> NoReturn:
    """Run the command line; refusals end with exit code 2 and one clear paragraph, never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    # The terminal shows our own progress and summary; the engine's chatter stays one setting away.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    try:
        app()
    except (InputError, StoreError) as error:
        typer.secho(f"refused: {error}", fg="red", err=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.secho(
                "What is stored stays. Run the same command again to go on.", fg="yellow", err=True
            )
        raise
    sys.exit(0)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _names(text: str | None) -> frozenset[str] | None:
    return frozenset(name.strip() for name in text.split(",") if name.strip()) if text else None


def _order(store: str, dicom: Path | None, files: Path | None, recipe: str | None) -> "CurationJob":
    from storage.recipe import load_recipe
    from tasks.curation.context import CurationJob

    return CurationJob(_source(dicom, files), store, load_recipe(recipe))


def _source(dicom: Path | None, files: Path | None) -> "SourceSpec":
    from storage.sources.registry import SourceSpec, open_source

    if (dicom is None) == (files is None):
        raise typer.BadParameter("give exactly one source: --dicom FOLDER or --files TABLE.csv")
    source = (
        SourceSpec("lidc", str(dicom.resolve()))
        if dicom
        else SourceSpec("files", str(Path(files or "").resolve()))
    )
    open_source(source)
    return source
