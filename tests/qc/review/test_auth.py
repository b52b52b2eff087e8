import pytest

from matting.errors import InputError
from qc.review.auth import SESSION_S, Authenticator, csrf_token
from qc.review.connections import ConnectionGate
from qc.review.reviewers import ReviewersFile, Role, add_reviewer, revoke_reviewer
from qc.review.server import ServerAddress, open_authenticator, open_listener


@pytest.fixture
def file(tmp_path):
    return tmp_path / "reviewers.txt"


def test_on_ones_own_machine_a_name_is_enough():
    authenticator = Authenticator(None)
    session = authenticator.sign_in("ann", "")
    assert authenticator.identify(session).name == "ann"
    assert authenticator.identify(session).role == Role.CURATOR
    assert authenticator.sign_in("ann", "") != session
    for wrong in ("", "../x", "a b", "a" * 65, "ann\n", "~x", "auto", "Auto"):
        assert authenticator.sign_in(wrong, "") is None
    assert authenticator.identify("auto~" + "a" * 43) is None


def test_elsewhere_only_the_right_token_opens(file):
    token = add_reviewer(file, "ann", Role.RATER)
    other = add_reviewer(file, "bob", Role.REVIEWER)
    assert token not in file.read_text()
    authenticator = Authenticator(ReviewersFile.open(file))
    session = authenticator.sign_in("ann", token)
    assert authenticator.identify(session).name == "ann"
    assert authenticator.identify(session).role == Role.RATER
    for name, wrong in (
        ("ann", other),
        ("ann", ""),
        ("ann", token[:-1]),
        ("eve", token),
        ("ann", token + "~"),
    ):
        assert authenticator.sign_in(name, wrong) is None
    assert authenticator.identify(None) is None


def test_a_session_is_not_the_token_and_ends(file):
    token = add_reviewer(file, "ann", Role.REVIEWER)
    now = [1_000_000.0]
    authenticator = Authenticator(ReviewersFile.open(file), clock=lambda: now[0])
    session = authenticator.sign_in("ann", token)
    assert token not in session
    assert authenticator.identify(f"ann~{token}") is None
    assert session.replace("ann~", "bob~") != session
    assert authenticator.identify(session.replace("ann~", "bob~")) is None
    now[0] += SESSION_S
    assert authenticator.identify(session) is not None
    now[0] += 1
    assert authenticator.identify(session) is None


def test_a_revoked_token_ends_its_sessions_and_no_other(file):
    tokens = {name: add_reviewer(file, name, Role.REVIEWER) for name in ("ann", "bob")}
    authenticator = Authenticator(ReviewersFile.open(file))
    sessions = {name: authenticator.sign_in(name, token) for name, token in tokens.items()}
    revoke_reviewer(file, "ann")
    assert authenticator.identify(sessions["ann"]) is None
    assert authenticator.sign_in("ann", tokens["ann"]) is None
    assert authenticator.identify(sessions["bob"]) is not None
    new = add_reviewer(file, "ann", Role.REVIEWER)
    assert authenticator.identify(sessions["ann"]) is None
    assert authenticator.identify(authenticator.sign_in("ann", new)) is not None


def test_a_reviewers_file_that_becomes_unusable_lets_nobody_in(file, caplog):
    token = add_reviewer(file, "ann", Role.REVIEWER)
    authenticator = Authenticator(ReviewersFile.open(file))
    session = authenticator.sign_in("ann", token)
    file.chmod(0o644)
    assert authenticator.identify(session) is None
    assert "others on this machine may read" in caplog.text
    file.chmod(0o600)
    assert authenticator.identify(session) is not None
    file.rename(file.with_suffix(".old"))
    assert authenticator.identify(session) is None


def test_the_proof_is_the_sessions_own():
    authenticator = Authenticator(None)
    one, two = authenticator.sign_in("ann", ""), authenticator.sign_in("ann", "")
    assert csrf_token(one) == csrf_token(one) != csrf_token(two)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
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
        assert not open_authenticator(place).needs_token
    else:
        with pytest.raises(InputError, match="every reviewer needs a token"):
            open_authenticator(place)


def test_a_certificate_needs_its_key(tmp_path):
    with pytest.raises(InputError, match="certificate and its key"):
        open_authenticator(ServerAddress("127.0.0.1", 8790, None, certificate=tmp_path))


def test_an_address_that_cannot_be_used_is_refused_in_words():
    with open_listener("127.0.0.1", 0, ConnectionGate()) as taken:
        taken.listen()
        with pytest.raises(InputError, match="a free port"):
            open_listener("127.0.0.1", taken.getsockname()[1], ConnectionGate())
    with pytest.raises(InputError, match="an address of this machine"):
        open_listener("203.0.113.7", 8790, ConnectionGate())
