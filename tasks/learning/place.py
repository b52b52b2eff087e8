"""The part of a CT that is predicted."""

from dataclasses import dataclass
from typing import Literal

from matting.errors import InputError
from matting.geometry.box import Box
from matting.geometry.grid import Grid


@dataclass(frozen=True, slots=True)
class Place:
    """The part of a CT to predict: around a point, a box, or all of it."""

    first: tuple[int, int, int] | None = None
    """Voxel (z, y, x): a point, or the first of a box; None for the whole CT."""
    last: tuple[int, int, int] | None = None
    """The last voxel of a box; None for a point."""

    @staticmethod
    def parse(point: str | None, box: str | None, whole: bool) -> "Place":
        """Parse a point ``z,y,x`` or a box ``z,y,x,z,y,x``, or take the whole CT.

        Raises:
            InputError: Not exactly one is given, or it cannot be parsed.
        """
        given = [n for n, v in (("--point", point), ("--box", box), ("--whole", whole)) if v]
        if len(given) != 1:
            raise InputError(
                "the place to predict is not clear",
                got=" and ".join(given) or "none",
                expected="one of --point, --box and --whole, or --table",
                remedy="Give the voxel of a nodule, e.g. --point 61,240,310: the network learned "
                "nodules, and what it says elsewhere has no meaning.",
            )
        if point:
            z, y, x = _numbers(point, 3, "--point")
            return Place((z, y, x))
        if box:
            z, y, x, c, b, a = _numbers(box, 6, "--box")
            return Place((z, y, x), (c, b, a))
        return Place()

    @staticmethod
    def check_table(*, image: bool, point: str | None, box: str | None, whole: bool) -> None:
        """Raise InputError if a place is given beside a table of points, which has them all."""
        options = {"--image": image, "--point": point, "--box": box, "--whole": whole}
        given = [name for name, value in options.items() if value]
        if given:
            raise InputError(
                "the place to predict is not clear",
                got=f"--table and {', '.join(given)}",
                expected="a table alone: it names the CTs and the points",
                remedy=f"Leave out {', '.join(given)}, or --table.",
            )

    @property
    def kind(self) -> Literal["point", "box", "whole"]:
        """What it is."""
        if self.first is None:
            return "whole"
        return "point" if self.last is None else "box"

    def within(self, grid: Grid, window_mm: tuple[float, float, float]) -> Box:
        """Return the box of voxels; raise InputError if it is not in the CT.

        Args:
            grid: The CT's.
            window_mm: Sides (z, y, x) of the box around a point.
        """
        if self.first is None:
            z, y, x = (slice(0, size) for size in grid.shape)
            return z, y, x
        last = self.last or self.first
        reach = [0, 0, 0]
        if self.last is None:
            sides = zip(window_mm, grid.spacing_mm, strict=True)
            reach = [round(side / 2 / spacing) for side, spacing in sides]
        inside = all(0 <= a <= b < n for a, b, n in zip(self.first, last, grid.shape, strict=True))
        if not inside:
            sizes = ", ".join(map(str, grid.shape))
            given = self.first if self.last is None else self.first + self.last
            raise InputError(
                "the place is not in the CT",
                got=", ".join(map(str, given)),
                expected=f"voxels z, y, x from 0 to below {sizes}, the first before the last",
                remedy="Count voxels from 0 in the order z, y, x: viewers often show x, y, z.",
            )
        box = zip(self.first, last, reach, grid.shape, strict=True)
        z, y, x = (slice(max(0, a - r), min(n, b + r + 1)) for a, b, r, n in box)
        return z, y, x


def _numbers(text: str, count: int, option: str) -> list[int]:
    parts = text.split(",")
    if len(parts) != count or not all(part.strip().lstrip("-").isdecimal() for part in parts):
        raise InputError(
            f"{option} cannot be parsed",
            got=repr(text),
            expected=f"{count} whole numbers with commas between, in the order z,y,x",
            remedy=f"E.g. {option} {'61,240,310' if count == 3 else '50,200,270,70,280,350'}",
        )
    return [int(part) for part in parts]
