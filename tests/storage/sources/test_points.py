"""Tables of points."""

import pytest

from matting.errors import InputError
from storage.sources.points import Point, read_points


def test_points_are_read_in_the_order_of_the_table(tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("Image;z;Y;x;note;name\nct.nii.gz;1;2;3;hilum;\n\n/data/ct;4;5;6;;a\n")
    folder = tmp_path
    assert read_points(table) == [
        Point(folder / "ct.nii.gz", (1, 2, 3), 2, "line-2"),
        Point(folder / "/data/ct", (4, 5, 6), 4, "a"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no points: got no header line"),
        ("image,z,y\nct,1,2\n", "no points: got image, z, y in .*expected the columns image, z"),
        ("image,z,y,x\n", "one line a point"),
        ("image,z,y,x\nct,1,2\n", "line 2 of .*: ct, 1, 2, expected .*whole numbers"),
        ("image,z,y,x\nct,1,2,3\nct,1,-2,3\n", "line 3 of"),
        ("image,z,y,x\n,1,2,3\n", "line 2 of"),
        ("image,z,y,x\nct,1.5,2,3\n", "line 2 of"),
        ("image,z,y,x,name\nct,1,2,3,../a\n", "'../a' on line 2"),
        ("image,z,y,x,name\nct,1,2,3,a\nct,1,2,4,A\n", "two points have one name: got A, a"),
        ("PK\x03\x04", "an Excel workbook"),
    ],
)
def test_what_is_no_table_of_points_is_refused(tmp_path, text, message):
    table = tmp_path / "points.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        read_points(table)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such table"):
        read_points(tmp_path / "points.csv")
