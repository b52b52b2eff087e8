"""The paper's experiments on a small release: tables, resuming, wrong use."""

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

import flows.evaluate
import flows.score
import qc.evaluation.pictures
import storage.releases.release
import tasks.learning.train
from flows.cli.main import app
from flows.evaluate import EvaluationJob, evaluate
from matting import METHODS
from matting.errors import InputError
from storage.recipe import load_recipe
from storage.records import Cost
from storage.releases.release import open_release
from storage.store import Store, copy_folder
from tasks.experiments.networks import open_partitions, trainings
from tasks.experiments.summary import check_experiments
from tasks.experiments.tables import measured_nodules
from tasks.learning.train import training_id_of
from tests.flows.training import copy_of

FIGURES = ("sad", "mse", "grad", "conn")
RECIPE = """
name: tiny
training: {crop_zyx: [16, 16, 32], focus: 1.0, batch: 8, epochs: 1, look_every: 0}
evaluation: {partitions: 2, trained_partitions: 9, variants: [3dmm-mg, 3dmm-m], test_nodules: 1}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def quick(module_patch):
    """Made-up costs; tests/tasks/experiments/test_cost.py measures one in its own process."""

    def measured(store, version, variant, auxiliary, crop_zyx, device):
        return Cost(
            variant, auxiliary, 1, 2, 0.5, 3.0, "x".join(map(str, crop_zyx)), 0.25, 3, device, "2"
        )

    module_patch.setattr(flows.evaluate, "measure_cost", measured)


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def job(learnable, recipe_file, environment, quick, module_patch, tmp_path_factory):
    """Experiments that were carried out once, with training."""
    store = copy_of(learnable, tmp_path_factory.mktemp("tried"))
    job = EvaluationJob(
        store.url, "0.1.0", load_recipe(recipe_file), "cpu", train=True, parts=("tables",)
    )
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
        evaluate(job)
        yield job


def rows_in(path):
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def table(store_url, number):
    return rows_in(f"{store_url}/experiments/0.1.0/tiny/table-{number}.csv")


def nodule_rows(store_url, what, nodules):
    return [
        row
        for name in nodules
        for row in rows_in(f"{store_url}/metrics/0.1.0/nodules-2/{what}/{name}.csv")
    ]


def expected(partitions, row, matte):
    """Mean and deviation over partitions of means over nodules, in plain words."""
    found = {}
    for figure in FIGURES:
        means = []
        for rows in partitions:
            mine = [
                r
                for r in rows
                if (r["truth"], r["region"], r["matte"]) == (row["truth"], row["region"], matte)
            ]
            means += [statistics.mean(float(r[figure]) for r in mine)] if mine else []
        found[figure] = statistics.mean(means)
        found[f"{figure}_deviation"] = statistics.stdev(means) if len(means) > 1 else None
    return found


def assert_row(row, wanted):
    for name, value in wanted.items():
        assert (float(row[name]) if row[name] else None) == pytest.approx(value), (
            row["matte"],
            name,
        )


def test_table_1_is_recomputed_from_the_nodules_own_scores(job):
    readers = open_partitions(open_release(job.store_url, "0.1.0"), 2)
    assert readers[0].splits != readers[1].splits
    methods = [
        nodule_rows(job.store_url, "methods", reader.nodules("test")) for reader in readers.values()
    ]
    rows = [row for row in table(job.store_url, 1) if not row["checkpoints"]]
    supplied = {member.method for member in readers[0].release.members.values()}
    wanted = {*METHODS, "readers' mean", "HU linear", "trimap prior"} - supplied
    assert wanted <= {row["matte"] for row in rows}
    for row in rows:
        assert_row(row, expected(methods, row, row["matte"]))
        counts = [
            sum((r["matte"], r["region"]) == (row["matte"], row["region"]) for r in found)
            for found in methods
        ]
        assert row["nodules"] == " ".join(str(count) for count in counts if count)
        # A method does not count where it supplied the truth
        for place, reader in readers.items():
            supplied = [reader.member(name).method for name in reader.nodules("test")]
            assert counts[place] == len(supplied) - supplied.count(row["matte"])


def test_table_2_is_recomputed_from_the_networks_own_scores(job):
    readers = open_partitions(open_release(job.store_url, "0.1.0"), 2)
    rows = table(job.store_url, 2)
    labels = ["3dmm-mg", "3dmm-mg (untold)", "3dmm-m", "3dmm-m (untold)"]
    assert list(dict.fromkeys(row["matte"] for row in rows)) == labels
    for row in rows:
        digests = row["checkpoints"].split()
        assert row["partitions"] == "0 1"
        by_partition = [
            nodule_rows(job.store_url, digest, measured_nodules(reader, 1))
            for digest, reader in zip(digests, readers.values(), strict=True)
        ]
        assert {r["matte"] for found in by_partition for r in found} == {row["matte"]}
        assert_row(row, expected(by_partition, row, row["matte"]))


def test_table_3_names_every_variant(job):
    rows = [(row["variant"], row["auxiliary"]) for row in table(job.store_url, 3)]
    assert rows == [
        ("3dmm-mg", "told"),
        ("3dmm-mg", "untold"),
        ("3dmm-m", "told"),
        ("3dmm-m", "untold"),
    ]


def test_every_network_learned_from_its_own_partition(job):
    trained = list(trainings(open_release(job.store_url, "0.1.0"), job.recipe, "cpu"))
    assert [(training.variant, training.auxiliary, training.partition) for training in trained] == [
        (*network, partition)
        for partition in (0, 1)
        for network in product(("3dmm-mg", "3dmm-m"), ("told", "untold"))
    ]


def test_only_missing_networks_are_trained_each_from_where_it_stopped(job, monkeypatch):
    release = open_release(job.store_url, "0.1.0")
    training_ids = [training_id_of(one) for one in trainings(release, job.recipe, "cpu")]
    begun = []
    monkeypatch.setattr(
        flows.evaluate, "fit", lambda one, *, resume: begun.append((training_id_of(one), resume))
    )
    flows.evaluate.train_networks(job, release)
    assert begun == []
    missing = [training_ids[0], training_ids[5]]
    monkeypatch.setattr(
        "tasks.experiments.networks.find_checkpoint",
        lambda _, training_id: None if training_id in missing else "0" * 64,
    )
    flows.evaluate.train_networks(job, release)
    assert begun == [(training_id, True) for training_id in missing]


@pytest.mark.parametrize(
    ("jobs", "gpus", "side_by_side"), [(0, 2, False), (1, 2, False), (2, 2, True), (2, 1, False)]
)
def test_processes_start_only_for_several_networks_on_several_gpus(
    jobs, gpus, side_by_side, job, monkeypatch
):
    called = []
    monkeypatch.setattr(flows.evaluate, "missing_trainings", lambda *_: [object()] * jobs)
    monkeypatch.setattr(flows.evaluate, "list_devices", lambda _: ["cuda"] * gpus)
    monkeypatch.setattr(flows.evaluate, "fit", lambda *_, **__: called.append("fit"))
    monkeypatch.setattr(flows.evaluate, "fit_side_by_side", lambda *_: called.append("side"))
    flows.evaluate.train_networks(job, open_release(job.store_url, "0.1.0"))
    assert called == (["side"] if side_by_side else ["fit"] * jobs)


@pytest.mark.parametrize(
    ("impossible", "done", "missing"),
    [
        (None, ["features", "apart", "networks"], {}),
        ("apart", ["features", "networks"], {}),
        ("features", [], {"diagnosis": "features: got none, expected some. Add some."}),
        (
            "networks",
            ["features", "apart"],
            {"diagnosis": "networks: got none, expected some. Add some."},
        ),
    ],
)
def test_what_cannot_be_diagnosed_is_left_out_and_said(impossible, done, missing, job, monkeypatch):
    did = []

    def do(name):
        if name == impossible:
            raise InputError(name, got="none", expected="some", remedy="Add some.")
        did.append(name)

    monkeypatch.setattr(
        flows.evaluate,
        "diagnose_by_features",
        lambda *_, raters_apart=False: do("apart" if raters_apart else "features"),
    )
    monkeypatch.setattr(flows.evaluate, "diagnose", lambda *_, **__: do("networks"))
    release = open_release(job.store_url, "0.1.0")
    found = flows.evaluate.diagnose_nodules.fn(replace(job, train=True), release)
    assert (did, found) == (done, missing)


def test_the_facts_say_what_the_tables_stand_on(job):
    facts = json.loads(
        Path(f"{job.store_url}/experiments/0.1.0/tiny/facts.json").read_text(encoding="utf-8")
    )
    assert (facts["nodules"], facts["stand_in"], facts["recipe"]["name"]) == (8, 0, "tiny")
    assert ["training.epochs", "1", "300"] in facts["differences"]
    assert ["evaluation.test_nodules", "1", "all"] in facts["differences"]
    assert facts["manifest_sha256"]
    assert facts["code"]["halosign"]


@pytest.mark.slow
def test_the_report_and_every_number_s_file_lie_beside_the_tables(job, monkeypatch, tmp_path):
    # Moving pictures take their time; tests/qc makes some.
    monkeypatch.setattr(qc.evaluation.pictures, "MAX_VIDEO_NODULES", 0)
    folder = Path(evaluate(replace(job, parts=("figures",))))
    assert folder == Path(f"{job.store_url}/experiments/0.1.0/tiny/report")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "REDUCED SETTING" in page
    for number in (1, 2, 3):
        assert (folder / f"table-{number}.csv").read_bytes() == (
            folder.parent / f"table-{number}.csv"
        ).read_bytes()
    readers = open_partitions(open_release(job.store_url, "0.1.0"), 1)
    assert rows_in(folder / "nodules/methods.csv") == nodule_rows(
        job.store_url, "methods", readers[0].nodules()
    )
    assert {"figure-7.png", "figure-8.png", "figure-9.png"} <= {
        path.name for path in (folder / "pictures").iterdir()
    }
    assert copy_folder(str(folder), tmp_path) == sum(path.is_file() for path in folder.rglob("*"))
    assert (tmp_path / "nodules/methods.csv").read_bytes() == (
        folder / "nodules/methods.csv"
    ).read_bytes()


def test_done_again_nothing_is_measured_or_trained_again(job, monkeypatch):
    def never(*_, **__):
        raise AssertionError("done twice")

    before = {number: table(job.store_url, number) for number in (1, 2, 3)}
    for place, name in (
        (flows.score, "score_methods"),
        (flows.score, "score_network"),
        (tasks.learning.train, "Trainer"),
    ):
        monkeypatch.setattr(place, name, never)
    evaluate(job)
    assert {number: table(job.store_url, number) for number in (1, 2, 3)} == before


def test_without_training_what_is_not_trained_is_not_there(learnable, job, tmp_path):
    store = copy_of(learnable, tmp_path)
    evaluate(replace(job, store_url=store.url, train=False))
    assert table(store.url, 2) == []
    assert {row["checkpoints"] for row in table(store.url, 1)} == {""}
    assert store.list_dir("checkpoints") == ([], [])
    page = store.get("experiments/0.1.0/tiny/report/report.html").decode()
    assert "no network was trained" in page
    assert "no classifier was trained" in page


@pytest.mark.slow
def test_killed_and_started_again_it_finishes_what_it_had_begun(
    learnable, job, recipe_file, environment, tmp_path
):
    store = copy_of(learnable, tmp_path)
    command = [sys.executable, "-m", "tests.flows.experiments", store.url, str(recipe_file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as child:
        for line in child.stdout:
            # After each nodule it waits for a word, so that it is killed right there.
            if line.startswith("scored 3"):
                child.send_signal(signal.SIGKILL)
            elif line.startswith("scored"):
                print(file=child.stdin, flush=True)
    assert child.returncode == -signal.SIGKILL
    stored = store.list_prefix("metrics/0.1.0/nodules-2")
    before = {key: os.stat(f"{store.url}/{key}").st_mtime_ns for key in stored}
    assert len(before) == 3
    # The networks are those of the other store, which has the same release.
    for folder in ("checkpoints", "trainings"):
        shutil.copytree(f"{job.store_url}/{folder}", f"{store.url}/{folder}")
    evaluate(replace(job, store_url=store.url))
    after = {key: os.stat(f"{store.url}/{key}").st_mtime_ns for key in before}
    assert after == before, "measured again"
    for number in (1, 2):
        assert table(store.url, number) == table(job.store_url, number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--release", "9.9.9"), "no such release"),
        (("--release", "0.1.0", "--parts", "tables,pictures"), "unknown part"),
        (("--release", "0.1.0", "--device", "cuda:9"), "no such device"),
        (("--release", "0.1.0", "--recipe", "BAD"), "cannot be stored under the recipe's name"),
    ],
)
def test_wrong_use_is_refused(learnable, tmp_path, arguments, message):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: ../up\n")
    given = [str(bad) if argument == "BAD" else argument for argument in arguments]
    done = CliRunner().invoke(app, ["evaluate", "--store", learnable.url, *given])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert learnable.list_dir("experiments") == ([], [])


def test_an_evaluation_reads_the_manifest_once(job, monkeypatch):
    reads = []
    get = Store.get

    def counting(store, key):
        reads.append(key)
        return get(store, key)

    monkeypatch.setattr(Store, "get", counting)
    storage.releases.release._read_manifest_once.cache_clear()
    check_experiments(open_release(job.store_url, "0.1.0"), job.recipe, "cpu")
    evaluate(replace(job, train=False))
    assert reads.count("releases/0.1.0/manifest.json") == 1


def test_a_part_alone_is_reported_where_nothing_else_was_measured(learnable, job, tmp_path):
    store = copy_of(learnable, tmp_path)
    evaluate(replace(job, store_url=store.url, train=False, parts=("diagnosis",)))
    page = store.get("experiments/0.1.0/tiny/report/report.html").decode()
    assert "the methods were not scored" in page
    assert table(store.url, 1) == []
