"""The numbers that the paper prints: Wang et al., 3D Matting, arXiv 2210.05104.

Metrics are in the paper's table units: MSE times 1e3 (Eq. 32); SAD (Eq. 31), Grad (Eq. 33) and Conn
"scaled by 1e-2", which at these sizes can only be said of sums divided by 1,000 already: a table's
value times 10 is the raw sum.
"""

from dataclasses import dataclass

from matting.parameters import Auxiliary

TABLE_UNITS = {"sad": 10.0, "mse": 1e-3, "grad": 10.0, "conn": 10.0}
"""How much raw one unit of the paper's tables is."""


@dataclass(frozen=True, slots=True)
class Printed:
    """A printed row: mean and standard deviation over four partitions, in table units."""

    sad: tuple[float, float]
    mse: tuple[float, float]
    grad: tuple[float, float]
    conn: tuple[float, float]


TABLE_1 = {
    "cf+": Printed((152.62, 7.38), (0.43, 0.03), (14.96, 0.95), (132.39, 7.10)),
    "knn+": Printed((102.22, 6.68), (0.25, 0.03), (13.78, 1.18), (76.01, 6.79)),
    "lb+": Printed((86.31, 15.52), (0.16, 0.05), (6.23, 1.45), (66.89, 14.80)),
    "if+": Printed((79.71, 8.68), (0.18, 0.03), (7.88, 0.97), (69.09, 8.17)),
    "3dmm": Printed((99.42, 6.42), (0.24, 0.02), (6.37, 0.75), (69.25, 5.87)),
}
"""Table 1: mattes against the released ones, by method; a method's own nodules are not counted."""

TABLE_2: dict[tuple[str, Auxiliary], Printed] = {
    ("3dmm", "told"): Printed((99.42, 6.42), (0.24, 0.02), (6.37, 0.75), (69.25, 5.87)),
    ("3dmm", "untold"): Printed((106.33, 10.51), (0.25, 0.04), (6.75, 0.87), (73.17, 9.24)),
    ("3dmm-m", "told"): Printed((106.20, 8.67), (0.25, 0.03), (6.75, 0.59), (74.56, 8.17)),
    ("3dmm-m", "untold"): Printed((107.35, 8.60), (0.26, 0.05), (6.89, 0.91), (76.34, 9.34)),
    ("3dmm-mg", "told"): Printed((116.66, 8.03), (0.29, 0.04), (7.44, 0.93), (82.21, 8.41)),
    ("3dmm-mg", "untold"): Printed((123.80, 8.78), (0.34, 0.07), (8.87, 0.92), (89.04, 9.63)),
}
"""Table 2: the network's variants, by name and use of the auxiliary masks; its daggers are read as
untold."""

TABLE_3 = {
    "3dmm": (2_940_327, 342.46e9),
    "3dmm-m": (2_829_603, 244.50e9),
    "3dmm-mg": (32_577, 5.64e9),
}
"""Table 3: parameters and multiply-adds ("FLOPs") at 1 x 96^3, with auxiliary masks."""

NODULES, PATIENTS = 864, 542
"""Section 3.2: the paper's data set."""
