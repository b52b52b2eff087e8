"""What an operator uses: JSON logs, the state of a store for a monitor, the check of a store."""

import json
from pathlib import Path

import pytest

from storage.store import open_store


@pytest.fixture(scope="module")
def logged(halosign_process, table, recipe, tmp_path_factory):
    """A run that logged JSON lines, on two workers of its own."""
    folder = tmp_path_factory.mktemp("logged")
    done = halosign_process(
        "curate", "--files", table, "--store", folder / "store", "--recipe", recipe, "--workers", 2,
        HALOSIGN_LOG_FORMAT="json",
    )  # fmt: skip
    return done, open_store(str(folder / "store"))


def test_every_line_of_the_log_is_an_event(logged):
    done, _ = logged
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"time", "level", "event"} <= lines[0].keys()
    of = {
        name: [line for line in lines if line["event"] == name]
        for name in ("nodule", "stage", "run begins")
    }
    assert {line["nodule"]: line["state"] for line in of["nodule"]} == {
        **{f"n{n}": "done" for n in range(1, 7)},
        "n7": "refused",
    }
    (begins,) = of["run begins"]
    assert begins["to_compute"] == 7
    ends = lines[-1]
    assert (ends["event"], ends["computed"], ends["refused"], ends["ending"]) == (
        "run ends",
        6,
        1,
        "complete",
    )
    # The workers' lines: every stage of every nodule, with its seconds.
    stages = {(line["nodule"], line["stage"]) for line in of["stage"]}
    assert {(f"n{n}", stage) for n in range(1, 7) for stage in ("scan", "solve", "write")} < stages
    assert all(line["seconds"] >= 0 and line["worker"].startswith("tcp://") for line in of["stage"])


def test_the_store_keeps_the_log_of_the_run(logged):
    done, store = logged
    (key,) = store.list_prefix("logs")
    kept = [json.loads(line) for line in store.get(key).decode().splitlines()]
    shown = [json.loads(line) for line in done.stderr.splitlines()]
    # All but what workers logged, and what was logged outside of the run
    assert kept == [line for line in shown if line in kept]
    assert (kept[0]["event"], kept[-1]["event"]) == ("run begins", "run ends")
    assert {line["nodule"] for line in kept if line["event"] == "nodule"} == {
        f"n{n}" for n in range(1, 8)
    }


def test_status_tells_a_monitor_of_the_last_run(logged, halosign):
    _, store = logged
    facts = json.loads(halosign("status", "--store", store.url, "--json").stdout)
    run = facts["last_run"]
    assert (run["ending"], run["to_compute"], run["states"]["computed"]) == ("complete", 7, 6)
    assert run["nodules_per_hour"] == round(3600 * 6 / run["wall_s"], 1)
    people = halosign("status", "--store", store.url).stdout
    started = run["started"].partition(".")[0]
    assert f"last run: started {started}+00:00 on {run['host']}, complete" in people


def test_check_finds_a_sound_store_sound_and_names_what_is_damaged(logged, halosign):
    _, store = logged
    sound = halosign("store", "check", "--store", store.url)
    assert sound.returncode == 0, sound.stderr
    assert "7 nodules verified, 0 damaged" in sound.stdout
    key = next(key for key in store.list_prefix("cases/n4") if key.endswith("image/c/0/0/0"))
    good = Path(store.url, key).read_bytes()
    Path(store.url, key).write_bytes(good[:-1])
    damaged = halosign("store", "check", "--store", store.url)
    assert damaged.returncode == 1
    assert (
        f"n4: {key}: {len(good) - 1} bytes, {len(good)} were written. "
        "Restore the case from a backup" in (damaged.stdout)
    )
    assert "7 nodules verified, 1 damaged" in damaged.stdout
    assert Path(store.url, key).read_bytes() == good[:-1]
    Path(store.url, key).write_bytes(good)


def test_what_is_damaged_is_named_everywhere_and_set_aside(logged, halosign):
    _, store = logged
    outcome, run = "outcomes/n4.json", next(store.list_prefix("runs"))
    good = {key: store.get(key) for key in (outcome, run)}
    for key in good:
        store.put(key, b"{")
    seen = halosign("status", "--store", store.url)
    words = " ".join((seen.stdout + seen.stderr).split())
    assert seen.returncode == 0
    assert f"the last run is not shown: {store.url}/{run} is not the record of a run" in words
    assert "n4 failed at record" in words
    done = halosign("store", "check", "--repair", "--store", store.url)
    assert done.returncode == 1
    assert f"2 files set aside in {store.url}/quarantine/" in " ".join(done.stdout.split())
    assert {key.split("/", 2)[2] for key in store.list_prefix("quarantine")} == {outcome, run}
    assert halosign("store", "check", "--store", store.url).returncode == 0
    for key, data in good.items():
        store.put(key, data)
