"""`halosign list`, selections of nodules, and settings on the command line."""

import csv
import io
import json

import pytest

from storage.reviews.listing import NoduleRow
from tests.flows.conftest import Finished


def rows(done: Finished) -> list[dict[str, str]]:
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_every_nodule_is_listed_once_with_what_became_of_it(undisturbed, halosign):
    _, store = undisturbed
    found = rows(halosign("list", "--store", store.url, "--csv"))
    assert [row["nodule"] for row in found] == [f"n{n}" for n in range(1, 8)]
    assert {row["state"] for row in found[:6]} == {"done"}
    assert found[6]["state"] == "invalid"
    assert "the readers share no voxel" in found[6]["reason"]
    assert all(float(row["megabytes"]) > 0 and row["form"] == "paper form" for row in found[:6])
    as_json = json.loads(halosign("list", "--store", store.url, "--json").stdout)
    assert [set(row) for row in as_json] == [set(NoduleRow.__slots__)] * 7


@pytest.mark.parametrize(
    ("state", "nodules"), [("invalid", ["n7"]), ("excluded", []), ("failed", [])]
)
def test_one_state_is_listed_alone(undisturbed, halosign, state, nodules):
    _, store = undisturbed
    found = rows(halosign("list", "--state", state, "--csv", HALOSIGN_STORE=store.url))
    assert [row["nodule"] for row in found] == nodules


def test_the_table_for_people_fits_a_terminal_and_counts(undisturbed, halosign):
    _, store = undisturbed
    lines = halosign("list", "--store", store.url).stdout.splitlines()
    assert lines[-1].strip() == "7 nodules"
    assert max(map(len, lines)) <= 80


def test_a_choice_is_listed_with_who_made_it(learnable, halosign):
    found = rows(halosign("list", "--store", learnable.url, "--csv"))
    assert {row["by"] for row in found} == {"auto"}
    assert all(row["choice"].endswith("+") for row in found)


@pytest.mark.parametrize(
    ("selection", "nodules"),
    [
        (("--nodules", "n3,n7"), ["n3", "n7"]),
        (("--limit", "2"), ["n1", "n2"]),
        (("--nodules", "n5,n6", "--limit", "1"), ["n5"]),
        (("--patients", "P-n4"), ["n4"]),
    ],
)
def test_a_plan_is_about_the_selection(table, halosign, tmp_path, selection, nodules):
    source = ("--files", table, "--store", tmp_path / "none")
    done = halosign("plan", *source, *selection, "--json")
    assert [one["nodule"] for one in json.loads(done.stdout)["nodules"]] == nodules


def test_a_selected_nodule_alone_is_curated(table, recipe, halosign, scheduler, tmp_path):
    place = ("--files", table, "--store", tmp_path / "s", "--recipe", recipe)
    done = halosign("curate", *place, "--nodules", "n2", "--scheduler", scheduler)
    assert "1 computed" in done.stdout, done.stderr
    assert [
        row["nodule"] for row in rows(halosign("list", "--store", tmp_path / "s", "--csv"))
    ] == ["n2"]


def test_settings_on_the_command_line_replace_the_recipes(undisturbed, table, recipe, halosign):
    _, store = undisturbed
    place = ("--files", table, "--store", store.url, "--recipe", recipe)
    settings = ("--set", "trimap.dilation_mm=2", "--set", "trimap.min_core_voxels=5")
    done = halosign("plan", *place, *settings)
    assert "trimap.dilation_mm 1.5 -> 2.0" in done.stdout
    assert "0 nodules to compute" in halosign("plan", *place).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("why", "n77"), "Did you mean n7?"),
        (("why", "patient"), "halosign list"),
        (("list", "--state", "finished"), "expected done, invalid, failed, excluded"),
        (("list", "--json", "--csv"), "use only one of"),
    ],
)
def test_wrong_questions_get_the_nearest_answer(undisturbed, halosign, arguments, message):
    _, store = undisturbed
    done = halosign(*arguments, "--store", store.url)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trimap.dilation=2", "Did you mean `dilation_mm`?"),
        ("trimap.dilation_mm=wide", "trimap.dilation_mm"),
        ("readers=[", "cannot be parsed"),
        ("a.b.c=1", "cannot be parsed"),
        ("trimap=2", "trimap"),
    ],
)
def test_settings_that_do_not_exist_are_refused(table, halosign, tmp_path, setting, message):
    done = halosign("plan", "--files", table, "--store", tmp_path / "none", "--set", setting)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_version_and_the_short_help(halosign):
    assert halosign("--version").stdout.startswith("halosign 0.")
    text = halosign("plan", "-h").stdout
    assert "Example: halosign plan" in text
    assert "bool" not in text
