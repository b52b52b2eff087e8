"""From the path in a cell to the file that is meant, whatever system wrote the table."""

import unicodedata
from pathlib import Path


def find_path(folder: Path, name: str) -> Path:
    """Return the file or folder that a cell names, relative to the table's folder.

    As it stands, if it exists. Else with slashes in place of backslashes, with ``~`` for the home
    folder, or in another Unicode form (macOS stores accents apart from their letters); the path as
    it stands where none of these exists.
    """
    given = folder / name
    spellings = [name, name.replace("\\", "/")]
    spellings += [
        unicodedata.normalize(form, spelling) for spelling in spellings for form in ("NFC", "NFD")
    ]
    for spelling in spellings:
        path = folder / spelling
        if spelling.startswith("~"):
            path = Path(spelling).expanduser()
        if path.exists():
            return path
    return given
