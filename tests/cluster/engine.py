"""A container engine for `make compose-test`: that of this machine, or one installed for the test.

An installed one is Debian's `dockerd` in a folder of its own, which needs no systemd. Where no
image registry answers, the images of others that `docker-compose.yml` and the `Dockerfile` name
are built from Debian's packages (`base_images/`).
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
BASE_IMAGES = Path(__file__).parent / "base_images"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DEBIAN = "bookworm"
DEBIAN_OF_COMPOSE = "trixie"
"""Debian 12 has only version 1 of compose; the package of Debian 13 needs nothing but libc."""

START_S = 60
CPU_SHARES = Path("/sys/fs/cgroup/cpu/docker/cpu.shares")
"""Of all containers together, under cgroup v1: as much as one process has, unless it is raised."""


class NoEngineError(Exception):
    """This machine has no container engine, and none can be installed."""


@contextmanager
def container_engine(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment in which `docker compose` works; leave no engine running.

    Args:
        folder: Where an engine of the test keeps everything; it takes about 12 GB.

    Raises:
        NoEngineError: There is none and none can be installed; the message says why.
    """
    if _answers(os.environ):
        yield dict(os.environ)
        return
    _install()
    home = folder / "home"
    _install_compose(folder / "packages", home / ".docker" / "cli-plugins")
    environment = {
        **os.environ,
        "HOME": str(home),
        "DOCKER_HOST": f"unix://{folder}/socket",
        "DOCKER_BUILDKIT": "0",  # the other builder asks a registry for images that are at hand
    }
    with _daemon(folder, environment):
        for image, kind in _foreign_images().items():
            if _run(["docker", "pull", "-q", image], environment, check=False) == 0:
                _run(["docker", "tag", image, f"halosign-test/{kind}"], environment)
            else:
                _build_base_image(image, kind, folder / "base_images", environment)
        with suppress(OSError):  # a machine with cgroup v2
            CPU_SHARES.write_text("4096")
        yield environment


def _answers(environment: Mapping[str, str]) -> bool:
    asked = (["docker", "info"], ["docker", "compose", "version"])
    return shutil.which("docker") is not None and all(
        _run(words, environment, check=False) == 0 for words in asked
    )


def _install() -> None:
    release = Path("/etc/os-release")
    if os.getuid() or not release.exists() or f"={DEBIAN}" not in release.read_text():
        raise NoEngineError(
            "no container engine answers, and one is installed only by root on Debian 12"
        )
    if all(shutil.which(program) for program in ("dockerd", "mmdebstrap", "rclone")):
        return
    packages = ("docker.io", "runc", "iptables", "mmdebstrap", "rclone")
    try:
        _run(["apt-get", "update", "-qq"], os.environ)
        _run(["apt-get", "install", "-qqy", "--no-install-recommends", *packages], os.environ)
    except subprocess.CalledProcessError as error:
        raise NoEngineError(f"no container engine answers, and {error}") from error


def _install_compose(packages: Path, plugins: Path) -> None:
    """Unpack compose and buildx, which docker finds as its plugins; nothing is installed."""
    sources = packages / "sources"
    (packages / "lists" / "partial").mkdir(parents=True)
    (packages / "cache" / "archives" / "partial").mkdir(parents=True)
    sources.write_text(f"deb http://deb.debian.org/debian {DEBIAN_OF_COMPOSE} main\n")
    settings = packages / "apt.conf"
    settings.write_text(
        f'Dir::State::lists "{packages}/lists"; Dir::Cache "{packages}/cache";\n'
        f'Dir::Etc::sourcelist "{sources}"; Dir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User "root";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(settings)}
    try:
        _run(["apt-get", "update", "-qq"], environment)
        _run(
            ["apt-get", "download", "-qq", "docker-compose", "docker-buildx"], environment, packages
        )
    except subprocess.CalledProcessError as error:
        raise NoEngineError(f"compose v2 cannot be had: {error}") from error
    for package in packages.glob("*.deb"):
        _run(["dpkg", "-x", package, packages / "unpacked"], os.environ)
    shutil.copytree(packages / "unpacked/usr/libexec/docker/cli-plugins", plugins)


@contextmanager
def _daemon(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    settings = {
        "data-root": f"{folder}/data",
        "exec-root": f"{folder}/run",
        "pidfile": f"{folder}/pid",
        "hosts": [environment["DOCKER_HOST"]],
    }
    file = folder / "daemon.json"
    file.write_text(json.dumps(settings))
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            ["dockerd", "--config-file", file], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + START_S
        while not _answers(environment):
            if daemon.poll() is not None or time.monotonic() > until:
                raise NoEngineError(f"dockerd does not start: {log.read_text()[-1500:]}")
            time.sleep(1)
        yield
    finally:
        daemon.terminate()
        daemon.wait()


def _foreign_images() -> dict[str, str]:
    """Return the images that others make, each with the folder of its substitute."""
    python = next(
        line.split()[1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("FROM ")
    )
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {python: "python"} | {
        service["image"]: name
        for name, service in services.items()
        if not service["image"].startswith("halosign:")
    }


def _build_base_image(image: str, kind: str, folder: Path, environment: Mapping[str, str]) -> None:
    if not folder.exists():
        shutil.copytree(BASE_IMAGES, folder)
        shutil.copy(CERTIFICATES, folder / "python")
        _copy_wheels(folder / "python" / "wheels")
        root = folder / "root.tar"
        packages = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip"
        _run(["mmdebstrap", "--variant=minbase", f"--include={packages}", DEBIAN, root], os.environ)
        _run(["docker", "import", root, "halosign-test/debian"], environment)
        root.unlink()
    tags = ["-t", image, "-t", f"halosign-test/{kind}"]
    _run(["docker", "build", "-q", *tags, folder / kind], environment)


def _copy_wheels(folder: Path) -> None:
    """Copy the wheels that pip finds on this machine and would not find in a container."""
    folder.mkdir()
    for place in os.environ.get("PIP_FIND_LINKS", "").split():
        for wheel in Path(place).glob("*.whl"):
            shutil.copy(wheel, folder)


def _run(
    words: list[str | Path],
    environment: Mapping[str, str],
    cwd: Path | None = None,
    *,
    check: bool = True,
) -> int:
    done = subprocess.run(
        words, env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        said = (done.stdout + done.stderr)[-1500:]
        raise subprocess.CalledProcessError(done.returncode, words, said, said)
    return done.returncode
