"""Connections that are opened and not used: closed in time, and never in the way of others."""

import asyncio
import datetime
import socket
import ssl
import threading
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from matting.errors import InputError
from qc.review import connections
from qc.review.connections import ConnectionGate
from qc.review.server import make_server
from tests.qc.review.conftest import InThisProcess, wait_until

HALF_REQUESTS = (b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nabc")
LONG = b"x" * (16 << 20)


class App:
    """Answers at once, with very much, or when it is let."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Event()

    async def __call__(self, scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/slow":
            self.begun += 1
            while not self.may_end.is_set():
                await asyncio.sleep(0.01)
        body = LONG if scope["path"] == "/long" else b"here"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app():
    return App()


@pytest.fixture
def gate():
    return ConnectionGate(per_client=6, in_all=9)


@pytest.fixture
def server(app, gate):
    running = InThisProcess(app, gate)
    yield running
    app.may_end.set()
    running.stop()


@pytest.fixture
def connect(server):
    """Open a connection, from any loopback address, and send something."""
    opened = []

    def open_one(sent: bytes = b"", client: str = "127.0.0.1") -> socket.socket:
        one = socket.create_connection(("127.0.0.1", server.port), 60, (client, 0))
        one.sendall(sent)
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(connections, "SWEEP_S", 0.05)
    monkeypatch.setattr(connections, "TIME_OUTS_S", dict.fromkeys(connections.TIME_OUTS_S, 0.4))


def is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def answer(server: InThisProcess, path: str = "/") -> bytes:
    return httpx.get(f"{server.url}{path}", trust_env=False, timeout=60).content


@pytest.mark.parametrize("sent", HALF_REQUESTS)
def test_half_requests_give_way_to_whole_ones(server, gate, connect, sent):
    opened = [connect(sent) for _ in range(60)]
    for _ in range(5):
        assert answer(server) == b"here"
    assert gate.open_count <= gate.per_client
    wait_until(lambda: sum(map(is_closed, opened)) >= 60 - gate.per_client)


def test_many_clients_have_a_limit_together(server, gate, connect):
    for number in range(40):
        connect(b"GET", client=f"127.0.1.{number + 1}")
    assert answer(server) == b"here"
    assert gate.open_count <= gate.in_all


@pytest.mark.parametrize("sent", HALF_REQUESTS)
def test_half_requests_end_in_time(quick, connect, sent):
    one = connect(sent)
    wait_until(lambda: is_closed(one))


def test_a_byte_now_and_then_extends_nothing(quick, connect):
    one, begun = connect(b"GET / HTTP/1.1\r\nx-"), time.monotonic()
    while not is_closed(one):
        assert time.monotonic() - begun < 60
        time.sleep(0.05)
        try:
            one.sendall(b"a")
        except OSError:
            break


def test_a_connection_in_use_outlives_the_time_out(quick, server):
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        peers = set()
        for _ in range(20):
            with client.stream("GET", "/") as response:
                stream = response.extensions["network_stream"]
                peers.add(stream.get_extra_info("client_addr"))
                response.read()
            time.sleep(0.06)
    assert len(peers) == 1


def test_who_does_not_read_is_closed(quick, connect, gate):
    one = connect(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
    assert one.recv(8)
    wait_until(lambda: gate.open_count == 0)


def test_who_does_not_read_gives_way(server, gate, connect):
    for _ in range(20):
        connect(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer(server) == b"here"
    assert gate.open_count <= gate.per_client


def test_what_is_processed_is_never_interrupted(server, app, gate, connect):
    request = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
    busy = [connect(request) for _ in range(gate.per_client)]
    wait_until(lambda: app.begun == gate.per_client)
    refused = connect(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    wait_until(lambda: is_closed(refused))
    elsewhere = connect(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", client="127.0.0.7")
    assert elsewhere.recv(15) == b"HTTP/1.1 200 OK"
    app.may_end.set()
    for one in busy:
        one.setblocking(True)
        assert one.recv(15) == b"HTTP/1.1 200 OK"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of localhost and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls_that_is_never_agreed_on_counts_and_ends(quick, app, gate, certificate):
    server = InThisProcess(app, gate, certificate=certificate)
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
    trusted = ssl.create_default_context(cafile=certificate[0])
    url = f"https://localhost:{server.port}/"
    assert httpx.get(url, verify=trusted, trust_env=False).content == b"here"
    assert gate.open_count <= gate.per_client
    wait_until(lambda: all(map(is_closed, silent)))
    for one in silent:
        one.close()
    server.stop()


def test_a_certificate_that_is_none_is_refused_in_words(tmp_path, app, gate, certificate):
    (tmp_path / "none.pem").write_text("nothing")
    for pair in ((tmp_path / "away", certificate[1]), (tmp_path / "none.pem", certificate[1])):
        with pytest.raises(InputError, match="TLS cannot be used"):
            make_server(app, gate, certificate=pair[0], key=pair[1])
