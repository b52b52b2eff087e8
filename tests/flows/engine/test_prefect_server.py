"""The private Prefect server: it touches nothing of the user's, and starts whatever is there."""

import http.server
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.engine.prefect_server
from flows.engine.prefect_server import prefect_server
from matting.errors import InputError

URL = "http://127.0.0.1:9/api"


@pytest.fixture
def unconfigured(monkeypatch, tmp_path):
    """A new user without a configured server; gives the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HALOSIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with temporary_settings(restore_defaults=[PREFECT_API_URL]):
        yield tmp_path


def template(home: Path) -> Path:
    (found,) = (home / "cache").glob("prefect-*.db")
    return found


@pytest.mark.parametrize("url", [URL, f"{URL}/"])
def test_a_configured_server_that_does_not_respond_is_an_error(monkeypatch, url):
    monkeypatch.setattr(flows.engine.prefect_server, "CONFIGURED_TIMEOUT_S", 0.5)
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(InputError, match=rf"does not respond: got no response from {URL}, expected"),
        prefect_server(),
    ):
        pytest.fail("there is no server")


@pytest.mark.slow
def test_a_private_server_leaves_the_users_prefect_alone_whatever_is_spoiled(unconfigured):
    users = unconfigured / ".prefect" / "prefect.db"
    users.parent.mkdir()
    users.write_bytes(b"of another version")
    for _ in range(2):
        with prefect_server() as url:
            assert httpx.get(f"{url}/health").json() is True
            assert httpx.post(f"{url}/flow_runs/count", json={}).json() == 0
    assert users.read_bytes() == b"of another version"
    assert os.listdir(users.parent) == ["prefect.db"]
    # A kept database that is damaged is made again.
    tables = sqlite3.connect(template(unconfigured)).execute("select count(*) from sqlite_master")
    assert tables.fetchone()[0] > 50
    template(unconfigured).write_bytes(b"no database")
    with prefect_server() as url:
        assert httpx.get(f"{url}/health").json() is True


@pytest.mark.slow
def test_three_first_starts_at_once_under_one_home(unconfigured):
    program = (
        "from flows.engine.prefect_server import prefect_server\n"
        "with prefect_server() as url: print(url)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    urls = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(set(urls)) == 3
    assert template(unconfigured).stat().st_size > 0


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch, unconfigured):
    asked = []

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(502)

        def log_message(self, *_):
            pass

    class Healthy(Refuses):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

    proxy, server = (http.server.HTTPServer(("127.0.0.1", 0), kind) for kind in (Refuses, Healthy))
    for one in (proxy, server):
        threading.Thread(target=one.serve_forever, daemon=True).start()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("no_proxy", "example.org")
    url = f"http://127.0.0.1:{server.server_port}/api"
    with temporary_settings({PREFECT_API_URL: url}), prefect_server() as found:
        assert found == url
        assert "example.org" in os.environ["no_proxy"]
    assert asked == []
    assert os.environ["no_proxy"] == "example.org"
    for one in (proxy, server):
        one.shutdown()
        one.server_close()


def test_a_server_that_cannot_start_says_why(monkeypatch, unconfigured):
    monkeypatch.setattr(
        flows.engine.prefect_server,
        "_environment",
        lambda home: {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_API_PORT": "x"},
    )
    with (
        pytest.raises(InputError, match=r"exited with code .* and said: .*"),
        prefect_server(),
    ):
        pytest.fail("it cannot start")
