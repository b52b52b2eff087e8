"""`halosign release withdraw` asks, and names who."""

import io
import sys

import pytest

from storage.releases.release import Draft, find_withdrawal, publish_release


class Terminal(io.StringIO):
    """Somebody at a terminal, who types."""

    def isatty(self):
        return True


@pytest.fixture
def released(store):
    publish_release(store, "0.1.0", Draft((), (), {}, {}, {}), publisher="ann")
    return store


def withdraw(halosign, store, *more, typed=None, user=""):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
        arguments = ("--store", store.url, "--reason", "wrong readers", *more)
        return halosign("release", "withdraw", "0.1.0", *arguments, USER=user)


def test_it_asks_at_a_terminal_and_says_what_it_would_do(halosign, released):
    done = withdraw(halosign, released, "--by", "bob", typed="n\n")
    assert done.returncode == 1
    question = "This cannot be undone: withdraw 0.1.0 of"
    assert question in done.stdout + done.stderr
    assert "as bob, because: wrong readers" in done.stdout + done.stderr
    assert find_withdrawal(released, "0.1.0") is None
    done = withdraw(halosign, released, "--by", "bob", typed="y\n")
    assert done.returncode == 0, done.stderr
    assert find_withdrawal(released, "0.1.0").withdrawn_by == "bob"


def test_without_a_terminal_it_refuses_unless_told(halosign, released):
    done = withdraw(halosign, released, "--by", "bob")
    assert done.returncode == 2
    assert "got no terminal to ask at, expected an answer, or --yes" in done.stderr
    assert find_withdrawal(released, "0.1.0") is None
    assert withdraw(halosign, released, "--by", "bob", "--yes").returncode == 0


def test_it_names_who(halosign, released):
    done = withdraw(halosign, released, "--yes")
    assert done.returncode == 2
    assert "a withdrawal needs a name: got none" in done.stderr
    assert "give it with --by NAME" in done.stderr
    assert find_withdrawal(released, "0.1.0") is None
    assert withdraw(halosign, released, "--yes", user="eve").returncode == 0
    assert find_withdrawal(released, "0.1.0").withdrawn_by == "eve"


def test_what_cannot_be_withdrawn_is_refused_before_it_asks(halosign, released):
    assert withdraw(halosign, released, "--by", "bob", "--yes").returncode == 0
    done = withdraw(halosign, released, "--by", "bob", typed="y\n")
    assert done.returncode == 2
    assert "withdrawn only once" in done.stderr
    assert "undone" not in done.stdout + done.stderr


def test_a_lost_manifest_is_listed_and_checked(halosign, released):
    released.delete(["releases/0.1.0/manifest.json"])
    for command in (("release", "list"), ("store", "check"), ("store", "gc")):
        done = halosign(*command, "--store", released.url)
        assert "releases/0.1.0/manifest.json is missing beside its claim" in " ".join(
            done.stdout.split()
        )
        assert done.returncode == (1 if command[1] == "check" else 0)


def test_a_foreign_manifest_is_listed_and_checked_and_stops_garbage_collection(halosign, released):
    publish_release(released, "0.2.0", Draft((), (), {}, {}, {}), publisher="ann")
    released.put("releases/0.1.0/manifest.json", released.get("releases/0.2.0/manifest.json"))
    for command, code in ((("release", "list"), 0), (("store", "check"), 1), (("store", "gc"), 2)):
        done = halosign(*command, "--store", released.url)
        words = " ".join((done.stdout + done.stderr).split())
        assert "releases/0.1.0/manifest.json is not the one that was published" in words
        assert done.returncode == code
    listed = halosign("release", "list", "--store", released.url).stdout
    assert "0.2.0  20" in listed
