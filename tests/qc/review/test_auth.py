import pytest

from matting.errors import InputError
from qc.review.auth import Authenticator, add_token, csrf_token, is_name, read_tokens
from qc.review.server import ServerAddress, open_authenticator


def test_on_ones_own_machine_a_name_is_enough():
    authenticator = Authenticator(None)
    session = authenticator.sign_in("ann", "")
    assert authenticator.reviewer(session) == "ann"
    assert authenticator.sign_in("ann", "") != session
    for wrong in ("", "../x", "a b", "a" * 65, "ann\n", "~x"):
        assert authenticator.sign_in(wrong, "") is None


def test_elsewhere_only_the_right_token_opens(tmp_path):
    file = tmp_path / "reviewers.txt"
    token, other = add_token(file, "ann"), add_token(file, "bob")
    assert token not in file.read_text()
    authenticator = Authenticator(read_tokens(file))
    assert authenticator.reviewer(authenticator.sign_in("ann", token)) == "ann"
    for name, wrong in (
        ("ann", other),
        ("ann", ""),
        ("ann", token[:-1]),
        ("eve", token),
        ("ann", token + "~"),
    ):
        assert authenticator.sign_in(name, wrong) is None
    assert authenticator.reviewer("ann~" + other) is None
    assert authenticator.reviewer(None) is None


def test_the_proof_is_the_sessions_own():
    authenticator = Authenticator(None)
    one, two = authenticator.sign_in("ann", ""), authenticator.sign_in("ann", "")
    assert csrf_token(one) == csrf_token(one) != csrf_token(two)


def test_a_token_is_given_once(tmp_path):
    file = tmp_path / "reviewers.txt"
    add_token(file, "ann")
    with pytest.raises(InputError, match="ann, who is in it already"):
        add_token(file, "ann")
    with pytest.raises(InputError, match="a name of letters"):
        add_token(file, "a/b")


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("ann " + "0" * 64, 0o640, "others on this machine may read"),
        ("", 0o600, "no reviewer"),
        ("ann secret", 0o600, "line 1"),
        ("# us\nann " + "0" * 64 + "\nann " + "1" * 64, 0o600, "line 3"),
        (None, 0o600, "a readable file"),
    ],
)
def test_a_reviewers_file_that_is_unsafe_or_wrong_is_refused(tmp_path, text, mode, message):
    file = tmp_path / "reviewers.txt"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(InputError, match=message):
        read_tokens(file)


def test_a_comment_and_an_empty_line_do_no_harm(tmp_path):
    file = tmp_path / "reviewers.txt"
    add_token(file, "ann")
    file.write_text("# radiology\n\n" + file.read_text())
    assert set(read_tokens(file)) == {"ann"}


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("review.example", False),
    ],
)
def test_others_need_a_token(host, local):
    place = ServerAddress(host, 8790, None)
    assert place.is_local == local
    if local:
        assert open_authenticator(place).token_hashes is None
    else:
        with pytest.raises(InputError, match="every reviewer needs a token"):
            open_authenticator(place)


def test_a_certificate_needs_its_key(tmp_path):
    with pytest.raises(InputError, match="certificate and its key"):
        open_authenticator(ServerAddress("127.0.0.1", 8790, None, certificate=tmp_path))


def test_names_are_what_may_stand_in_a_path():
    assert all(map(is_name, ("ann", "LIDC-IDRI-0078-a0123", "a.b_c")))
    assert not any(
        map(is_name, ("", ".", "..", ".a", "-a", "a/b", "a\\b", "a\0", "a\n", "ä", "a" * 65))
    )
