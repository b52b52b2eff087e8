"""The reviewers' file."""

import pytest

from matting.errors import InputError
from qc.review.reviewers import (
    Role,
    add_reviewer,
    is_name,
    is_reviewer_name,
    read_reviewers,
    revoke_reviewer,
)

HASH = "0" * 64


@pytest.fixture
def file(tmp_path):
    return tmp_path / "reviewers.txt"


def write(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)


def test_a_token_is_given_once(file):
    add_reviewer(file, "ann", Role.REVIEWER)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="has this reviewer already: got ann"):
        add_reviewer(file, "ann", Role.CURATOR)
    for name in ("a/b", "auto", "AUTO"):
        with pytest.raises(InputError, match=r"cannot be a reviewer's: got .*, expected letters"):
            add_reviewer(file, name, Role.REVIEWER)
    assert list(read_reviewers(file)) == ["ann"]


def test_comments_stay_where_a_reviewer_is_added_or_removed(file):
    write(file, f"# radiology\n\nold {HASH}\n")
    assert read_reviewers(file)["old"].role == Role.CURATOR, "as in earlier versions"
    add_reviewer(file, "ann", Role.RATER)
    assert read_reviewers(file)["ann"].role == Role.RATER
    revoke_reviewer(file, "old")
    assert list(read_reviewers(file)) == ["ann"]
    assert file.read_text().startswith("# radiology\n\nann ")
    revoke_reviewer(file, "ann")
    assert read_reviewers(file) == {}


def test_only_a_known_reviewer_can_be_revoked(file):
    with pytest.raises(InputError, match="a readable file"):
        revoke_reviewer(file, "ann")
    add_reviewer(file, "ann", Role.REVIEWER)
    with pytest.raises(InputError, match="has no such reviewer: got bob, expected one of: ann"):
        revoke_reviewer(file, "bob")
    with pytest.raises(InputError, match="a folder that exists"):
        add_reviewer(file.parent / "none" / "reviewers.txt", "ann", Role.REVIEWER)


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (f"ann {HASH}", 0o640, "others on this machine may read"),
        ("ann secret", 0o600, "line 1"),
        (f"# us\nann {HASH}\nann {'1' * 64}", 0o600, "line 3"),
        (f"ann {HASH} owner", 0o600, "line 1"),
        (f"auto {HASH}", 0o600, "line 1"),
        ("#" * (1 << 20) + "\n", 0o600, "at most 1 MB"),
        (None, 0o600, "a readable file"),
    ],
)
def test_a_file_that_is_unsafe_or_wrong_is_refused(file, text, mode, message):
    if text is not None:
        write(file, text, mode)
    with pytest.raises(InputError, match=message):
        read_reviewers(file)


def test_names_are_what_may_stand_in_a_path():
    assert all(map(is_name, ("ann", "LIDC-IDRI-0078-a0123", "a.b_c", "auto")))
    assert not any(
        map(is_name, ("", ".", "..", ".a", "-a", "a/b", "a\\b", "a\0", "a\n", "ä", "a" * 65))
    )
    assert is_reviewer_name("automat")
    assert not is_reviewer_name("aUTO")
