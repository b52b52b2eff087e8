"""Reader of docker-compose.yml as local processes: same commands, same environment.

Containers have addresses and file systems of their own; processes share those of one machine. So
``service:port`` becomes a port of the loopback interface, and a mounted volume becomes a folder.
Nothing else is changed. For an image of a third party, ``x-process`` in the file names the program
to run instead.
"""

import re
import shlex
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from dask.utils import parse_timedelta

from matting.errors import InputError

LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"
"""What a container listens on; here the loopback takes its place, since nobody else need reach what
has no TLS."""

_VARIABLE = re.compile(
    r"\$(?:\$|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<text>(?:\$\{\w+(?::-[^${}]*)?\}|[^}])*))?\})"
)

Service = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Process:
    """One replica of a service, ready to be started."""

    name: str
    service: str
    command: list[str]
    environment: dict[str, str]
    health: list[str]
    """Command that ends with 0 when the service is well; empty for one that does its work and
    ends."""
    needs: list[str]
    """Services that must be healthy before."""
    patience_s: float
    """How long it may take to become healthy."""
    user: str
    install: str
    """What to install if the command is missing; empty for what is part of Halosign."""
    stop_signal: int
    grace_s: float
    """How long it may take to stop."""
    folders: list[str] = field(default_factory=list)
    """Folders of its named volumes."""
    ports: dict[str, int] = field(default_factory=dict)
    """Local port by port of the file."""


def read_processes(
    path: Path,
    variables: Mapping[str, str],
    folder: Path,
    known: Mapping[str, Mapping[str, int]],
    services: tuple[str, ...] = (),
) -> list[Process]:
    """Read the processes that a compose file asks for, in an order in which they can start.

    Args:
        path: The compose file.
        variables: What ``${NAME}`` stands for; ``COMPOSE_PROFILES`` says which profiles are wanted.
        folder: Where volumes lie.
        known: Ports that processes have already, by name and port of the file.
        services: These and what they need; all where none is named.

    Raises:
        InputError: The file asks for a variable that is not set, or there is no such service.
    """
    chosen = _chosen(
        yaml.safe_load(path.read_text(encoding="utf-8"))["services"], variables, services
    )
    given = {name: substitute(service, variables) for name, service in chosen.items()}
    replicas = {
        f"{name}-{n}" if n else name: name
        for name, service in given.items()
        for n in range(int(service.get("deploy", {}).get("replicas", 1)))
    }
    ports: dict[str, dict[str, int]] = {}
    taken = {port for own in known.values() for port in own.values()}
    for name, service in replicas.items():
        ports[name] = {
            port: known.get(name, {}).get(port) or _free_port(int(port), taken)
            for port in given[service].get("expose", ())
        }
    hosts = {
        f"{host}:{port}": f"{LOOPBACK}:{here}"
        for host, own in ports.items()
        for port, here in own.items()
    }
    return [
        _process(name, service, given[service], folder, hosts, ports[name])
        for name, service in replicas.items()
    ]


def _process(
    name: str,
    service: str,
    given: Service,
    folder: Path,
    hosts: dict[str, str],
    ports: dict[str, int],
) -> Process:
    own = {**given, **given.get("x-process", {})}
    check, rhythm = own.get("healthcheck", {}), given.get("healthcheck", {})
    volumes = _volumes(given, folder)
    put = {**hosts, **{port: str(here) for port, here in ports.items()}, **volumes, ANY: LOOPBACK}
    seen = "|".join(rf"(?<![\w.-])(?<!\w/){re.escape(text)}(?![\w-])" for text in put)

    def here(words: list[str]) -> list[str]:
        # In one pass, so that what was put in is not taken for something of the file.
        return [re.sub(seen, lambda match: put[match.group()], word) for word in words]

    environment = {key: str(value) for key, value in given.get("environment", {}).items()}
    return Process(
        name=name,
        service=service,
        command=here(_words(own.get("entrypoint", [])) + _words(own["command"])),
        environment=dict(zip(environment, here(list(environment.values())), strict=True)),
        health=here(_check_words(check["test"])) if check else [],
        needs=list(given.get("depends_on", ())),
        patience_s=sum(
            _seconds(rhythm.get(key, "60s")) for key in ("start_period", "interval", "timeout")
        ),
        user=str(given.get("user", "")),
        install=own.get("install", ""),
        stop_signal=int(signal.Signals[given.get("stop_signal", "SIGTERM")]),
        grace_s=_seconds(given.get("stop_grace_period", "10s")),
        folders=[place for place in volumes.values() if Path(place).parent == folder / "volumes"],
        ports=ports,
    )


def _chosen(
    services: dict[str, Service], variables: Mapping[str, str], names: tuple[str, ...]
) -> dict[str, Service]:
    """Select the services of the active profiles, or named ones with dependencies, in order."""
    profiles = set(variables.get("COMPOSE_PROFILES", "").split(","))
    wanted = {
        name: s
        for name, s in services.items()
        if not s.get("profiles") or profiles & set(s["profiles"])
    }
    for name in names:
        if name not in wanted:
            raise InputError(
                "unknown service",
                got=name,
                expected=", ".join(wanted),
                remedy="Check the name.",
            )
    needs = {name: set(service.get("depends_on", ())) for name, service in wanted.items()}
    order = list(TopologicalSorter(needs).static_order())
    kept = set(names or wanted)
    for name in reversed(order):
        kept |= needs[name] if name in kept else set()
    return {name: wanted[name] for name in order if name in kept}


def substitute(value: Any, variables: Mapping[str, str]) -> Any:
    """Substitute variables as compose does: ``${A}``, ``${A:-default}``, ``${A:?error}``.

    The default may have another variable in it: ``${A:-${B:-default}}``.
    """

    def one(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        given = variables.get(match["name"], "")
        if not given and match["how"] == "?":
            got = f"{match['name']} is empty"
            raise InputError(
                "a setting is missing",
                got=got,
                expected=match["text"],
                remedy="`make .env` makes the file.",
            )
        return given or str(substitute(match["text"] or "", variables))

    if isinstance(value, dict):
        return {key: substitute(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, variables) for item in value]
    return _VARIABLE.sub(one, value) if isinstance(value, str) else value


def _volumes(service: Service, folder: Path) -> dict[str, str]:
    """Return the local folder of every mounted path; a source without a slash is a named volume."""
    parts = [volume.split(":") for volume in service.get("volumes", ())]
    return {
        inside: str(Path(outside).resolve() if "/" in outside else folder / "volumes" / outside)
        for outside, inside, *_ in parts
    }


def _words(command: str | list[str]) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else list(command)


def _check_words(test: str | list[str]) -> list[str]:
    return ["sh", "-c", test] if isinstance(test, str) else test[1:]


def _seconds(text: str) -> float:
    return float(parse_timedelta(text))


def _free_port(wanted: int, taken: set[int]) -> int:
    """Return the wanted port if it is free, else any free port; add it to `taken`."""
    for port in (wanted, *[0] * 10):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            free = int(probe.getsockname()[1])
        if free not in taken:
            taken.add(free)
            return free
    raise OSError(f"no free port on {LOOPBACK}")
