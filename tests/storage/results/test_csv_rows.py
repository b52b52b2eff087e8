from dataclasses import dataclass

import pytest

from storage.errors import CorruptionError
from storage.results.csv_rows import from_csv, to_csv


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    share: float
    certain: bool
    spread: float | None


ROWS = [Row("a, b", 1, 0.1 + 0.2, True, None), Row("", -3, 1e-300, False, 5.0)]


def test_rows_come_back_to_the_last_bit():
    assert from_csv(Row, to_csv(Row, ROWS), "here") == ROWS
    assert from_csv(Row, to_csv(Row, []), "here") == []


@pytest.mark.parametrize(
    "data", [b"", b"name,count\na,1\n", to_csv(Row, ROWS).replace(b"-3", b"x"), b"\xff\xfe"]
)
def test_another_file_is_damage_and_says_where(data):
    with pytest.raises(CorruptionError, match="here is not a table of name, count"):
        from_csv(Row, data, "here")
