"""What is taken from the rows of a table: ids or their pseudonyms, and the columns that are kept.

What a table says may identify a patient, so no message shows a cell of it.
"""

from pathlib import Path

from matting.errors import InputError
from storage.layout import is_nodule_id
from storage.sources.pseudonyms import add_to_map, open_pseudonyms
from storage.sources.table_rows import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, SCALE_COLUMNS

_OWN = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *SCALE_COLUMNS)


def select_columns(
    table: Path, rows: list[dict[str, str]], keep: tuple[str, ...]
) -> list[dict[str, str]]:
    """Return rows with the columns that are used or kept.

    Args:
        table: Where they are from, for the message.
        rows: As `read_rows` returns them.
        keep: Columns to keep.

    Raises:
        InputError: A column to keep is not in the table, or is used anyway.
    """
    own = [name for name in keep if name in _OWN]
    absent = [name for name in keep if any(name not in row for row in rows)]
    if own or absent:
        raise InputError(
            "the recipe keeps columns that cannot be kept",
            got=f"{', '.join(own or absent)} in `source.keep`",
            expected="columns that Halosign does not use itself" if own else f"columns of {table}",
            remedy="Correct the recipe.",
        )
    used = {*_OWN, *keep}
    return [{name: cell for name, cell in row.items() if name in used} for row in rows]


def check_patterns(table: Path, rows: list[dict[str, str]]) -> None:
    """Raise InputError for ids that cannot be part of a path, or look like more than an id."""
    for number, row in enumerate(rows, 1):
        for column in ("nodule", "patient"):
            if not is_nodule_id(row[column]):
                raise InputError(
                    f"a name in column `{column}` cannot be used as an id",
                    got=f"{_unfit(row[column])} in row {number} below the header",
                    expected="letters, digits and ._- only, at most 100, beginning with a letter "
                    "or digit and not ending in a dot",
                    remedy=f"Rename it in {table}, or use --pseudonymize KEYFILE.",
                )


def pseudonymize(
    rows: list[dict[str, str]], key: Path, patients: frozenset[str] | None
) -> tuple[list[dict[str, str]], frozenset[str] | None]:
    """Replace the ids of rows, and of chosen patients, by pseudonyms; add them to the key's map.

    Args:
        rows: Of the whole table.
        key: File of the key.
        patients: By either name; None for all.

    Raises:
        InputError: The key or its map cannot be used.
    """
    pseudonyms = open_pseudonyms(key)
    add_to_map(key, pseudonyms, [(row["nodule"], row["patient"]) for row in rows])
    known = {row["patient"] for row in rows}
    renamed = [
        {
            **row,
            "nodule": pseudonyms.nodule(row["patient"], row["nodule"]),
            "patient": pseudonyms.patient(row["patient"]),
        }
        for row in rows
    ]
    if patients is None:
        return renamed, None
    return renamed, frozenset(
        pseudonyms.patient(name) if name in known else name for name in patients
    )


def _unfit(name: str) -> str:
    """Describe what is wrong with an id without showing it."""
    wrong = sorted({letter for letter in name if not letter.isascii() or not letter.isalnum()})
    shown = [repr(letter) for letter in wrong if letter not in "._-"]
    return f"the characters {' '.join(shown)}" if shown else f"{len(name)} characters"
