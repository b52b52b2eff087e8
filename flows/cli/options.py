"""Options shared by commands of several groups."""

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from storage.recipe import Recipe
    from storage.sources.registry import SourceSpec

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="HALOSIGN_STORE",
        help="Folder or URL of the store, e.g. ./store or s3://bucket/set.",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="YAML file, or `paper`, `improved`, `cpu` or `demo`.", show_default="paper"
    ),
]
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
XmlOption = Annotated[
    Path | None,
    typer.Option(
        "--xml",
        help="With --dicom: folder of LIDC-IDRI's XML files, which name the reader of each "
        "annotation; nodules that one reader marked twice are excluded.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="A setting in place of the recipe's, e.g. trimap.dilation_mm=2; may be repeated.",
    ),
]
PatientsOption = Annotated[
    str | None, typer.Option("--patients", help="Only these patients, comma-separated.")
]
NodulesOption = Annotated[
    str | None, typer.Option("--nodules", help="Only these nodules, comma-separated.")
]

_DURATION = re.compile(r"(\d+)([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def chosen_recipe(recipe: str | None, settings: list[str] | None) -> "Recipe":
    """Read a recipe and replace settings of it; raises InputError."""
    from storage.recipe import load_recipe, parse_override

    return load_recipe(recipe, **parse_override(settings or []))


def parse_names(text: str | None) -> frozenset[str] | None:
    """Parse names separated by commas; None where none were asked for.

    Raises typer.BadParameter for a text without a name, such as that of a variable that is not set.
    """
    if text is None:
        return None
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise typer.BadParameter(f"got {text!r}, expected names separated by commas")
    return names


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90m, 24h or 7d; raises typer.BadParameter for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if not match or len(match[1]) > 6:
        raise typer.BadParameter(
            f"got {text!r}, expected minutes, hours or days, e.g. 90m, 24h or 7d"
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def write_duration(duration: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, in hours or minutes."""
    minutes = int(duration.total_seconds()) // 60
    return f"{minutes}m" if minutes % 60 else f"{minutes // 60}h"


def chosen_source(
    dicom: Path | None,
    files: Path | None,
    pseudonymize: Path | None,
    xml: Path | None,
    store: str,
) -> "SourceSpec":
    """Return the one source that was given, opened once; raises typer.BadParameter, InputError."""
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
    if files and xml:
        raise typer.BadParameter(
            "--xml names the readers of LIDC-IDRI: use it with --dicom; a table names its own"
        )
    source = (
        SourceSpec("lidc", str(dicom.resolve()), xml=str(xml.resolve()) if xml else "")
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
