"""Tables 1 to 3 as the page shows them: in the paper's units, beside the paper's values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from qc.evaluation.page import NetworkName
from qc.evaluation.paper import TABLE_1, TABLE_2, TABLE_3, TABLE_UNITS, Printed
from storage.records import Cost
from storage.results.experiments import Averages, NetworkDifference
from storage.results.scores import METRIC_NAMES

TRUTHS = {"released": "the released matte", "known": "the known alpha of the synthetic CT"}
REGIONS = {
    "whole": "the whole patch",
    "near": "the readers' union and 5 mm around it",
    "unknown": "the unknown voxels of the trimap",
}
PAPER_COMPARISON = ("released", "whole")
"""Truth and region of the paper's own tables."""
COMPARED_METRICS = ("sad", "mse")
TRIVIAL = ("readers' mean", "HU linear", "trimap prior")
"""Mattes that need no method; added by us."""


@dataclass(frozen=True, slots=True)
class MetricCell:
    """One metric of one matte."""

    mean: float
    """In table units."""
    std: float | None
    """The same; None over one partition."""
    raw_mean: float
    """In raw units, as in the CSV."""
    raw_std: float | None
    """In raw units, as in the CSV."""
    paper: tuple[float, float] | None
    """The paper's mean and deviation, in table units; None where it prints none."""
    best: bool
    """Smallest of its column."""
    behind_trivial: bool
    """Whether a method or network is worse than a trivial matte."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One matte."""

    matte: str
    """Its name."""
    trivial: bool
    """True for a matte that needs no method."""
    cells: tuple[MetricCell, ...]
    """SAD, MSE, Grad and Conn."""
    nodules: str
    """Number of nodules that counted, by partition."""
    partitions: int
    """Number of partitions."""
    training: str
    """How a network was trained."""
    line: int
    """Its line in the CSV, the header being line 1."""


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """All mattes against one truth over one region."""

    truth: str
    """In words."""
    region: str
    """In words."""
    prints_paper: bool
    """Whether the paper prints values for any row."""
    rows: tuple[ErrorRow, ...]
    """As stored."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """One network of Table 3."""

    cost: Cost
    """As stored."""
    paper: tuple[int, float] | None
    """The paper's parameters and multiply-adds; None where it prints none."""
    line: int
    """Its line in the CSV."""


def table_1(rows: Sequence[Averages]) -> tuple[ErrorTable, ...]:
    """Return Table 1, one part for each truth and region, the paper's first."""
    return _tables(rows, TABLE_1)


def table_2(rows: Sequence[Averages]) -> tuple[ErrorTable, ...]:
    """Return Table 2, one part for each truth and region, the paper's first."""
    printed = {row.matte: TABLE_2.get(name) for row in rows if (name := NetworkName.of(row.matte))}
    return _tables(rows, {name: found for name, found in printed.items() if found})


def table_3(rows: Sequence[Cost]) -> tuple[CostRow, ...]:
    """Return Table 3; the paper counts told networks only."""
    return tuple(
        CostRow(cost, TABLE_3.get(cost.variant) if cost.auxiliary == "told" else None, line)
        for line, cost in enumerate(rows, start=2)
    )


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A network against another matte over one region: change of SAD and of MSE."""

    first: str
    second: str
    region: str
    """In words."""
    partitions: int
    nodules: int
    patients: int
    cells: tuple[NetworkDifference, ...]
    """As stored."""
    lines: tuple[int, ...]
    """Their lines in the CSV."""


def compared(rows: Sequence[NetworkDifference]) -> tuple[ComparedRow, ...]:
    """Return the differences of SAD and MSE from the released mattes, region by region."""
    shown: dict[tuple[str, str, str], dict[str, tuple[int, NetworkDifference]]] = {}
    for line, row in enumerate(rows, start=2):
        if row.truth == PAPER_COMPARISON[0] and row.metric in COMPARED_METRICS:
            shown.setdefault((row.region, row.first, row.second), {})[row.metric] = (line, row)
    in_order = sorted(shown.items(), key=lambda item: list(REGIONS).index(item[0][0]))
    return tuple(
        ComparedRow(
            first=first,
            second=second,
            region=REGIONS[region],
            partitions=len(cells["sad"][1].partitions.split()),
            nodules=cells["sad"][1].nodules,
            patients=cells["sad"][1].patients,
            cells=tuple(cells[metric][1] for metric in COMPARED_METRICS),
            lines=tuple(cells[metric][0] for metric in COMPARED_METRICS),
        )
        for (region, first, second), cells in in_order
    )


def _tables(rows: Sequence[Averages], printed: Mapping[str, Printed]) -> tuple[ErrorTable, ...]:
    def place(numbered: tuple[int, Averages]) -> tuple[int, int]:
        _, row = numbered
        return list(TRUTHS).index(row.truth), list(REGIONS).index(row.region)

    ordered = sorted(enumerate(rows, start=2), key=place)
    return tuple(_table(list(members), printed) for _, members in groupby(ordered, key=place))


def _table(members: Sequence[tuple[int, Averages]], printed: Mapping[str, Printed]) -> ErrorTable:
    first = members[0][1]
    same = (first.truth, first.region) == PAPER_COMPARISON
    smallest = {name: min(getattr(row, name) for _, row in members) for name in METRIC_NAMES}
    hurdle = {
        name: min(
            (getattr(row, name) for _, row in members if row.matte in TRIVIAL), default=float("inf")
        )
        for name in METRIC_NAMES
    }
    return ErrorTable(
        truth=TRUTHS[first.truth],
        region=REGIONS[first.region],
        prints_paper=same and any(row.matte in printed for _, row in members),
        rows=tuple(
            ErrorRow(
                matte=row.matte,
                trivial=row.matte in TRIVIAL,
                cells=tuple(
                    _cell(
                        row,
                        name,
                        printed.get(row.matte) if same else None,
                        smallest[name],
                        hurdle[name],
                    )
                    for name in METRIC_NAMES
                ),
                nodules=", ".join(row.nodules.split()),
                partitions=len(row.partitions.split()),
                training=row.training,
                line=line,
            )
            for line, row in members
        ),
    )


def _cell(
    row: Averages, name: str, printed: Printed | None, smallest: float, hurdle: float
) -> MetricCell:
    mean = getattr(row, name)
    deviation = getattr(row, f"{name}_deviation")
    unit = TABLE_UNITS[name]
    return MetricCell(
        mean=mean / unit,
        std=None if deviation is None else deviation / unit,
        raw_mean=mean,
        raw_std=deviation,
        paper=None if printed is None else getattr(printed, name),
        best=mean == smallest,
        behind_trivial=row.matte not in TRIVIAL and mean > hurdle,
    )
