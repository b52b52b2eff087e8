"""No message of a table's nodule names a file of it."""

import errno
import traceback
from pathlib import Path

import pytest

from matting.errors import InputError
from storage.sources.errors import SourceUnreachableError
from storage.sources.redaction import Redaction

FOLDER = Path("/data/Doe Jane")
FILES = {
    "image": ["ct/DOE^JANE.nii.gz"],
    "readers": ["doe-1.nrrd", "doe-2.nrrd"],
    "known_alpha": [],
}


@pytest.fixture
def redaction():
    files = {name: [(cell, FOLDER / cell) for cell in cells] for name, cells in FILES.items()}
    return Redaction(FOLDER, files)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{FOLDER}/ct/DOE^JANE.nii.gz: cut", "the file of column `image`: cut"),
        ("in ct/DOE^JANE.nii.gz.", "in the file of column `image`."),
        ('"DOE^JANE.nii.gz"', '"the file of column `image`"'),
        ("DOE^JANE.raw is short", "the file of column `image` is short"),
        ("doe-2.nrrd", "file 2 of column `readers`"),
        (f"in {FOLDER}/ct/DOE^JANE.nii.gz/IM-JANE.dcm: x", "in the file of column `image`: x"),
        (f"nothing in {FOLDER}", "nothing in the table's folder"),
        ("DOE^JANEX.nii.gz and a reader", "DOE^JANEX.nii.gz and a reader"),
    ],
)
def test_names_give_way_to_columns(redaction, text, expected):
    assert redaction.text(text) == expected


def failing(error, cause=None):
    def fail():
        raise error from cause

    return fail


def test_errors_keep_what_handlers_need(redaction):
    name = f"{FOLDER}/doe-1.nrrd"
    cause = OSError(errno.EIO, "Input/output error", name)
    away = SourceUnreachableError("gone", got=name, expected=FOLDER, remedy=f"Mount {FOLDER}.")
    with pytest.raises(SourceUnreachableError) as raised:
        redaction.call(failing(away, cause))
    assert raised.value.__cause__.errno == errno.EIO
    text = "".join(traceback.format_exception(raised.value))
    assert "file 1 of column `readers`" in text
    for word in ("doe", "Doe", "DOE"):
        assert word not in text
    with pytest.raises(RuntimeError, match=r"KeyError: .*file 1 of column"):
        redaction.call(failing(KeyError(name)))


def test_other_errors_are_raised_as_they_are(redaction):
    error = InputError("uneven", got=1, expected=2, remedy="Look.")
    with pytest.raises(InputError) as raised:
        redaction.call(failing(error))
    assert raised.value is error
    assert redaction.call(lambda: 7) == 7
