"""Volumes whose header names the files with its voxels (.mhd, .nhdr)."""

import re
from collections.abc import Iterator
from pathlib import Path

_KEYS = {".mhd": "elementdatafile", ".nhdr": "data file"}
"""The field that names the files, by the header's suffix, in lower case."""
_HEADER_BYTES = 1_000_000
"""Far more than any header has."""
_PATTERN = re.compile(r"%0?\d*d")


def voxel_files(header: Path) -> Iterator[Path]:
    """Yield the files with the voxels of a header; none where the header holds them itself.

    First the files that share the header's stem, as writers name them, then whatever else the
    header names: one file, a list, or a numbered pattern.
    """
    key = _KEYS.get(header.suffix.lower())
    if key is None or not header.parent.is_dir():
        return
    siblings = sorted(
        path
        for path in header.parent.iterdir()
        if path.name.split(".")[0] == header.stem and path != header
    )
    yield from siblings
    yield from sorted(_named(header, key) - {header, *siblings})


def _named(header: Path, key: str) -> set[Path]:
    try:
        with header.open("rb") as stream:
            lines = stream.read(_HEADER_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return set()
    for number, line in enumerate(lines):
        name, separator, value = line.partition("=" if key == "elementdatafile" else ":")
        if separator and name.strip().lower() == key:
            return _files(header.parent, value.strip(), lines[number + 1 :])
    return set()


def _files(folder: Path, value: str, following: list[str]) -> set[Path]:
    if value.upper() in {"LOCAL", "INTERNAL", ""}:
        return set()
    first = value.split()[0]
    if first.upper() == "LIST":
        return {folder / line.strip() for line in following if line.strip()}
    if _PATTERN.search(value):
        wildcard = _PATTERN.sub("*", first)
        return set((folder / wildcard).parent.glob(Path(wildcard).name))
    return {folder / value}
