"""The compose file is valid and safe, and means the same for a local process as for a container."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from flows.automations import SILENCE_S
from flows.engine.cluster import OWN_SETTINGS
from matting.errors import InputError
from tests.cluster.compose import read_processes

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SETTINGS = {
    **{name: f"made-up-{n}" for n, name in enumerate(SECRETS)},
    "HALOSIGN_DICOM": "/scans/lidc",
}


def validate(path):
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        path,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_file_is_valid_by_the_compose_specification():
    done = validate(COMPOSE)
    assert done.returncode == 0, done.stdout


def test_the_specification_would_notice_a_slip(tmp_path):
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("stop_signal:", "stop_sginal:"))
    done = validate(wrong)
    assert done.returncode == 1
    assert "stop_sginal" in done.stdout


def read(tmp_path, services=(), known=None, **settings):
    found = read_processes(COMPOSE, {**SETTINGS, **settings}, tmp_path, known or {}, services)
    return {process.name: process for process in found}


def is_own(service):
    return service["image"].startswith("halosign:")


def test_one_image_serves_all_but_training_and_none_asks_a_registry_for_it():
    own = {name: one for name, one in SERVICES.items() if is_own(one)}
    built = {one["image"]: name for name, one in own.items() if "build" in one}
    assert built == {
        "halosign:${HALOSIGN_IMAGE_TAG:-local}": "bucket",
        "halosign:${HALOSIGN_IMAGE_TAG:-local}-cuda": "gpu",
    }
    assert {name for name, one in own.items() if one["image"].endswith("-cuda")} == {"gpu"}
    assert {one["pull_policy"] for one in own.values()} == {"never"}


def test_torch_comes_without_cuda_for_all_services_but_the_one_that_trains():
    where = {name: SERVICES[name]["build"]["args"]["TORCH_INDEX"] for name in ("bucket", "gpu")}
    assert "/whl/cpu}" in where["bucket"]
    assert "cpu" not in where["gpu"]


def test_processes_that_read_crops_have_room_to_pass_them_on():
    """Docker's default of 64 MB holds less than one batch of each of them."""
    assert SERVICES["gpu"]["shm_size"] == "4g"


@pytest.mark.parametrize(
    ("service", "setting"),
    [
        ("scheduler", "scheduler.allowed-failures"),
        ("scheduler", "scheduler.worker-saturation"),
        ("worker", "worker.memory.pause"),
    ],
)
def test_dask_is_set_as_a_cluster_of_halosign_is_and_as_the_guide_says(service, setting):
    name = "DASK_DISTRIBUTED__" + setting.upper().replace(".", "__").replace("-", "_")
    value = SERVICES[service]["environment"][name]
    assert yaml.safe_load(value) == OWN_SETTINGS[f"distributed.{setting}"]
    assert f"{name}={value}" in (ROOT / "docs" / "cluster.md").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_pinned_and_known_to_be_well(name):
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert ("healthcheck" in service) != (service["restart"] == "no"), (
        "a service is watched, or does its work and ends"
    )
    assert all(
        need["condition"].startswith("service_") for need in service.get("depends_on", {}).values()
    )
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Of processes and threads. Compose refuses `pids_limit` beside other limits.
    assert 0 < service["deploy"]["resources"]["limits"]["pids"] <= 4096
    assert "pids_limit" not in service
    if not is_own(service):
        assert re.search(r":v?\d+\.\d+", service["image"])
        assert service["user"] not in {"root", "0"}


def test_services_that_write_to_volumes_only_have_a_read_only_root():
    """A worker's spill and Prefect's own folder need a disk; those of third parties are theirs."""
    read_only = {name for name, one in SERVICES.items() if one.get("read_only")}
    assert read_only == {"bucket", "store", "scheduler", "review"}
    for name in read_only:
        assert [place.split(":")[0] for place in SERVICES[name]["tmpfs"]] == ["/tmp"]
        assert is_own(SERVICES[name])
        assert "/tmp" not in SERVICES[name]["command"]


def test_who_needs_a_service_waits_until_it_is_well():
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            ends = SERVICES[needed]["restart"] == "no"
            assert how["condition"] == (
                "service_completed_successfully" if ends else "service_healthy"
            )


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_run_is_not_given_up_where_one_sign_of_life_is_lost(name):
    every_s = int(SERVICES[name]["environment"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert 2 * every_s < SILENCE_S < 3 * every_s


def test_the_image_is_pinned_and_not_root():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert {line.split()[1] for line in lines if line.startswith("FROM ")} == {
        "python:3.11.15-slim-bookworm"
    }
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    assert any("-c constraints.txt" in line for line in lines)


def test_a_gpu_is_asked_for_only_by_its_profile():
    (device,) = SERVICES["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert {
        name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service
    } == {
        "gpu": ["gpu"],
        "review": ["review"],
    }


@pytest.mark.parametrize("missing", [*SECRETS, "HALOSIGN_DICOM"])
def test_no_secret_has_a_default(tmp_path, missing):
    with pytest.raises(InputError, match=f"{missing} is empty"):
        read(tmp_path, **{missing: ""})


def test_the_example_names_every_variable_and_leaves_secrets_empty():
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"\$\{(\w+)", COMPOSE.read_text())) <= set(
        re.findall(r"^#? ?(\w+)=", example, re.MULTILINE)
    )
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == set(SECRETS)


def test_processes_have_the_commands_of_the_file_at_addresses_of_this_machine(tmp_path):
    found = read(tmp_path, DASK_WORKERS="3", WORKER_MEMORY="2GiB")
    scheduler = found["scheduler"].ports
    worker = found["worker-2"]
    assert " ".join(worker.command) == (
        f"dask worker tcp://127.0.0.1:{scheduler['8786']} --nthreads 1 --memory-limit 2GiB "
        f"--dashboard-address 127.0.0.1:{worker.ports['8788']} --local-directory /tmp/dask"
    )
    assert worker.environment["NUMBA_NUM_THREADS"] == worker.environment["OMP_NUM_THREADS"] == "1"
    assert (
        worker.environment["AWS_ENDPOINT_URL"]
        == f"http://127.0.0.1:{found['objects'].ports['7070']}"
    )
    assert str(worker.ports["8788"]) in worker.health[-1]
    assert found["deployments"].environment["HALOSIGN_DICOM"] == "/scans/lidc"
    assert found["postgres"].environment["PGDATA"] == str(tmp_path / "volumes/postgres/prefect")
    url = found["prefect"].environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert (
        url
        == f"postgresql+asyncpg://prefect:made-up-0@127.0.0.1:{found['postgres'].ports['5432']}/prefect"
    )


def test_workers_and_the_review_page_have_keys_of_their_own_where_they_are_set(tmp_path):
    def keys(**settings):
        found = read(tmp_path, COMPOSE_PROFILES="gpu,review", **settings).values()
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return {
            process.service: tuple(process.environment[name] for name in names)
            for process in found
            if names[0] in process.environment
        }

    shared = keys()
    assert set(shared.values()) == {("made-up-2", "made-up-3")}
    own = {"worker": ("w", "w-secret"), "review": ("r", "r-secret")}
    assert shared | own == keys(
        WORKER_ACCESS_KEY_ID="w",
        WORKER_SECRET_ACCESS_KEY="w-secret",
        REVIEWER_ACCESS_KEY_ID="r",
        REVIEWER_SECRET_ACCESS_KEY="r-secret",
    )


def test_nothing_of_the_file_is_left_unsaid_and_nothing_listens_to_the_world(tmp_path):
    for process in read(tmp_path, COMPOSE_PROFILES="gpu,review").values():
        words = [*process.command, *process.health, *process.environment.values()]
        assert not [word for word in words if "${" in word or "0.0.0.0" in word]


def test_every_process_has_ports_of_its_own_and_keeps_those_it_had(tmp_path):
    first = read(tmp_path, COMPOSE_PROFILES="gpu,review", DASK_WORKERS="4")
    ports = [port for process in first.values() for port in process.ports.values()]
    assert len(set(ports)) == len(ports) == 12
    again = read(
        tmp_path,
        known={name: process.ports for name, process in first.items()},
        COMPOSE_PROFILES="gpu,review",
    )
    assert all(again[name].ports == first[name].ports for name in again)


def test_a_number_in_a_secret_is_no_port(tmp_path):
    found = read(tmp_path, known={"postgres": {"5432": 9999}}, POSTGRES_PASSWORD="a5432b")
    assert found["postgres"].environment["POSTGRES_PASSWORD"] == "a5432b"
    assert found["postgres"].command[-1] == "9999"


def test_the_page_of_prefect_asks_the_server_that_showed_it(tmp_path):
    def asked(**settings):
        prefect = read(tmp_path, known={"prefect": {"4200": 9999}}, **settings)["prefect"]
        return prefect.environment["PREFECT_UI_API_URL"]

    assert asked() == "http://127.0.0.1:9999/api"
    assert asked(PREFECT_PORT="4300") == "http://127.0.0.1:4300/api"
    assert asked(PREFECT_PAGE="https://prefect.example.org") == "https://prefect.example.org/api"


def test_a_service_brings_what_it_needs_in_order(tmp_path):
    assert list(read(tmp_path, ("store",))) == ["bucket", "objects", "store"]
    names = list(read(tmp_path, ("prefect", "worker")))
    for before, after in pairwise(["bucket", "objects", "store", "worker"]):
        assert names.index(before) < names.index(after)
    assert "gpu" not in read(tmp_path)


def test_the_review_page_lets_in_who_has_a_token_only(tmp_path):
    review = read(tmp_path, COMPOSE_PROFILES="review")["review"]
    assert " ".join(review.command) == (
        "halosign review serve --store s3://halosign/store --recipe paper "
        f"--host 127.0.0.1 --port {review.ports['8080']} "
        f"--tokens {tmp_path}/volumes/reviewers/tokens"
    )


def test_a_service_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown service: got gpu"):
        read(tmp_path, ("gpu",))
