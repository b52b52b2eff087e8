"""Points of CTs, as a table: columns image, z, y, x and, where they have names, name."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from matting.errors import InputError
from storage.layout import is_safe_name
from storage.sources.csv_lines import read_lines

COLUMNS = ("image", "z", "y", "x")


@dataclass(frozen=True, slots=True)
class Point:
    """A voxel of a CT."""

    image: Path
    """A volume file or a folder of DICOM."""
    voxel: tuple[int, int, int]
    """(z, y, x), counted from 0."""
    line: int
    """Of the table."""
    name: str
    """Its own; line-N without one."""


def read_points(table: Path) -> list[Point]:
    """Read a table of points; an image's path is relative to the table, other columns are ignored.

    Raises:
        InputError: It is no table, lacks a column or a point, a line cannot be read, or two points
            have one name.
    """
    lines = read_lines(table)
    header = [name.lower() for name in lines[0][1]] if lines else []
    missing = [name for name in COLUMNS if name not in header]
    points = [] if missing else [_point(table, header, *line) for line in lines[1:] if any(line[1])]
    if not points:
        raise InputError(
            "the table names no points",
            got=f"{', '.join(header) or 'no header line'} in {table}",
            expected=f"the columns {', '.join(COLUMNS)}, and one line a point",
            remedy="Give for each point the CT and the voxel, counted from 0 in the order z, y, x.",
        )
    names = Counter(point.name.casefold() for point in points)
    doubled = sorted(point.name for point in points if names[point.name.casefold()] > 1)
    if doubled:
        raise InputError(
            "two points have one name",
            got=", ".join(doubled[:4]),
            expected="a name of its own for each, upper and lower case taken as the same",
            remedy=f"Rename or remove one in {table}.",
        )
    return points


def _point(table: Path, header: list[str], line: int, cells: list[str]) -> Point:
    row = dict(zip(header, cells, strict=False))
    numbers = [row.get(axis, "") for axis in "zyx"]
    if not row.get("image") or not all(number.isdecimal() for number in numbers):
        raise InputError(
            "a line of the table is no point",
            got=f"line {line} of {table}: {', '.join(cells)}",
            expected="a CT, and whole numbers from 0 up in z, y and x",
            remedy="Correct or remove the line.",
        )
    name = row.get("name") or f"line-{line}"
    if not is_safe_name(name):
        raise InputError(
            "a point's name cannot be a folder's",
            got=f"{name!r} on line {line} of {table}",
            expected="letters, digits, dots, dashes and underscores, a letter or digit first",
            remedy="Rename it.",
        )
    z, y, x = map(int, numbers)
    return Point(table.parent / row["image"], (z, y, x), line, name)
