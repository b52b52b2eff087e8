"""The commands of releases: `halosign release`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.commands import Commands
from flows.cli.options import (
    DicomOption,
    FilesOption,
    NodulesOption,
    PseudonymizeOption,
    RecipeOption,
    SetOption,
    StoreOption,
    XmlOption,
    chosen_recipe,
    chosen_source,
    parse_names,
)
from matting.errors import InputError

release = Commands(help="Publish, verify, compare and export versions of the data set.")


@release.command(
    "publish",
    kept="the version is published whole or not at all, which `halosign release list` shows",
    epilog="Example: halosign release publish 0.1.0 --store ./store",
)
def release_publish(
    version: Annotated[str, typer.Argument(help="New version, e.g. 0.1.0.")],
    store: StoreOption,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    publisher: Annotated[
        str, typer.Option(help="Name of the publisher, which the release shows.")
    ] = "unknown",
    title: Annotated[
        str, typer.Option(help="Title of the data set.", show_default="as in the release before")
    ] = "",
    authors: Annotated[
        str, typer.Option(help="Their names, separated by semicolons.", show_default="the same")
    ] = "",
    license_: Annotated[
        str,
        typer.Option(
            "--license",
            help="Identifier of SPDX such as CC-BY-4.0, or a name.",
            show_default="the same, else CC-BY-3.0 if all scans are LIDC-IDRI's",
        ),
    ] = "",
    contact: Annotated[
        str, typer.Option(help="Name, e-mail address or web page.", show_default="the same")
    ] = "",
) -> None:
    """Publish the cases with a verdict as an immutable version, if they pass all checks."""
    from flows.cli.printing import warn_of_other_question, warn_of_unreachable
    from flows.engine.console import count_of
    from flows.engine.prefect_server import prefect_server
    from flows.publish import publish
    from storage.releases.about import read_about
    from storage.releases.release import check_unused
    from storage.store import open_store

    # Wrong input is refused before a server is started.
    opened = open_store(store)
    check_unused(opened, version)
    about = read_about(title=title, authors=authors, license_=license_, contact=contact)
    chosen = chosen_recipe(recipe, settings)
    with prefect_server():
        manifest = publish(store, version, chosen, publisher, about).manifest
    nodules = count_of(len(manifest.members), "nodule")
    files = count_of(len(manifest.case_files), "file")
    typer.echo(f"published {version}: {nodules}, {files}; {manifest.form_name}")
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
    """Verify every file of a release against its SHA-256, and that they do not contradict."""
    from flows.cli.printing import warn_if_withdrawn
    from flows.engine.progress_bar import ProgressBar
    from storage.releases.release import Release
    from storage.releases.verify import verify_release
    from storage.store import open_store

    opened = open_store(store)
    with ProgressBar("verifying files") as bar:
        complaints = verify_release(
            opened, version, lambda done, total: bar.update(done, total=total)
        )
    warn_if_withdrawn(opened, version)
    for complaint in complaints:
        typer.echo(complaint)
    if complaints:
        raise typer.Exit(1)
    files = len(Release.open(opened, version).manifest.case_files)
    typer.echo(
        f"{version}: {files} case files and the release's own files verified; no contradictions"
    )


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
    kept="files that were written are whole and kept",
    epilog="Example: halosign release export 0.1.0 --store ./store --format nifti --to ./export",
)
def release_export(
    version: Annotated[str, typer.Argument(help="Published version.")],
    store: StoreOption,
    format_: Annotated[
        str, typer.Option("--format", help="zarr, nifti, npz, dicom-seg or nnunet.")
    ],
    to: Annotated[
        Path,
        typer.Option("--to", help="New folder, or one with an incomplete export of the same kind."),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Only these splits, comma-separated: train, validation, test."
        ),
    ] = None,
    nodules: NodulesOption = None,
    dicom: Annotated[
        Path | None, typer.Option("--dicom", help="The curated scans, which dicom-seg refers to.")
    ] = None,
) -> None:
    """Export a release to files that other software reads. Run it again to resume."""
    from flows.export import export

    files = export(
        store,
        version,
        format_,
        to,
        dicom,
        splits=parse_names(split),
        nodules=parse_names(nodules),
    )
    typer.echo(f"{to}: {files} files, checksums in checksums.sha256")


@release.command(
    "reproduce",
    kept="the release is unchanged; with --to, recomputed nodules are stored",
    epilog="Example: halosign release reproduce 0.1.0 --store ./store --dicom ./dicom",
)
def release_reproduce(
    version: Annotated[str, typer.Argument(help="Published version.")],
    store: StoreOption,
    dicom: DicomOption = None,
    files: FilesOption = None,
    pseudonymize: PseudonymizeOption = None,
    xml: XmlOption = None,
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

    source = chosen_source(dicom, files, pseudonymize, xml, store)
    reproductions = reproduce(store, version, source, to, Cluster(workers=workers))
    show_reproduction(version, reproductions)
    raise typer.Exit(1 if any(one.difference for one in reproductions) else 0)


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
