"""Files for the user: whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from storage.output import is_incomplete, produce_output, remove_incomplete, write_output


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_and_its_folder_are_made_and_replaced(tmp_path):
    write_output(tmp_path / "a" / "b.txt", b"one")
    write_output(tmp_path / "a" / "b.txt", b"two")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"
    assert names(tmp_path) == ["a/b.txt"]


def test_a_file_that_cannot_be_written_stays_as_it_was_and_is_named(tmp_path):
    path = tmp_path / "b.nii.gz"
    path.write_bytes(b"one")

    def fill_the_disk(part):
        assert part.name.endswith(".nii.gz")
        part.write_bytes(b"tw")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))

    with pytest.raises(OSError, match="No space left") as error:
        produce_output(path, fill_the_disk)
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["b.nii.gz"]


def test_another_command_may_remove_an_incomplete_file_once(tmp_path):
    calls = []

    def written_beside_a_cleaner(part):
        calls.append(part)
        part.write_bytes(b"whole")
        if len(calls) == 1:
            remove_incomplete(tmp_path)

    produce_output(tmp_path / "b", written_beside_a_cleaner)
    assert (tmp_path / "b").read_bytes() == b"whole"
    with pytest.raises(FileNotFoundError):
        produce_output(tmp_path / "c", lambda _: None)


def test_what_an_interruption_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/.part-00c0ffee-x.json", "a/x.json", ".part"):
        (tmp_path / name).write_bytes(b"{}")
    assert is_incomplete(tmp_path / "a" / ".part-00c0ffee-x.json")
    remove_incomplete(tmp_path)
    assert names(tmp_path) == [".part", "a/x.json"]


def test_a_link_is_followed_and_a_device_is_written_as_it_is(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "there" / "real.csv")
    write_output(tmp_path / "link.csv", b"rows")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there" / "real.csv").read_bytes() == b"rows"
    (tmp_path / "null").symlink_to(os.devnull)
    write_output(tmp_path / "null", b"rows")
    assert Path(os.devnull).is_char_device()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_output(tmp_path / "full", b"rows")
