"""A small store with every kind of file, and ways to damage one."""

import random
import re
from pathlib import Path

import numpy as np

from storage.cases.case import read_case_files
from storage.cases.outcomes import read_outcomes
from storage.cases.runs import write_run
from storage.records import (
    Cost,
    Member,
    Run,
    Study,
    StudyItem,
    TrainerProgress,
    TrainingState,
    Verdict,
)
from storage.releases.release import Draft, publish_release, withdraw_release
from storage.results.checkpoints import (
    CONFIG,
    WEIGHTS,
    checkpoint_prefix,
    write_checkpoint,
    write_preview,
    write_state,
    write_training_end,
)
from storage.results.diagnoses import (
    NoduleScore,
    RatedNodule,
    diagnosis_prefix,
    write_inputs,
    write_run_scores,
)
from storage.results.experiments import Averages, write_cost, write_facts, write_report, write_table
from storage.results.left_out import (
    LeftOutRow,
    LeftOutScore,
    write_left_out,
    write_left_out_table,
)
from storage.results.networks import CARD, METADATA, write_network
from storage.results.scores import METHOD_SCORES, Score, write_nodule_scores, write_scores
from storage.reviews.studies import create_study
from storage.reviews.verdicts import record_verdict
from storage.store import Store
from tests.cases import checkpoint_config, experiment_facts
from tests.reviewable import reviewable_store

NODULES = 2
SCORES = [Score("P-1-a1", "cf", "released", "near", 10, 1.0, 0.1, 2.0, 3.0)]
COST = Cost("3dmm-mg", "told", 32, 55, 1.25, 100.0, "16x32x32", 0.1, 7, "a CPU", "2")
ROW = Averages("cf", "released", "whole", "0", "3", 1.5, 0.5, 0.1, None, 2.0, None, 3.0, None)
STATE = TrainingState(TrainerProgress(3, [0.1], 2, [{"epoch": 1}], {}), [{"sad": None}], [2])
TENSORS = {"a": np.arange(60, dtype=np.float32), "b": np.float32([1.5])}

KINDS = {
    "mark of a case": r"cases/[^/]+/[^/]+\.done",
    "metadata of a case": r"cases/.*/zarr\.json",
    "array of a case": r"cases/.*/c/.*",
    "outcome": r"outcomes/.*",
    "verdict": r"decisions/.*",
    "plan of a study": r"studies/[^/]+/study\.json",
    "verdict of a study": r"studies/[^/]+/verdicts/.*",
    "run": r"runs/.*",
    "manifest": r"releases/.*/manifest\.json",
    "claim": r"releases/.*/claim\.json",
    "withdrawal": r"releases/.*/withdrawn\.json",
    "file of a release": r"releases/.*/(README\.md|splits\.csv)",
    "configuration of a network": r"checkpoints/.*/config\.json",
    "weights": r"checkpoints/.*/weights\.safetensors",
    "file of a published network": r"networks/[^/]+/(?!files\.json).*",
    "state of a training": r"trainings/.*/state\.safetensors",
    "end of a training": r"trainings/.*/checkpoint\.json",
    "preview of a training": r"trainings/.*\.(png|csv)",
    "scores": r"metrics/.*\.csv",
    "summary of scores": r"metrics/.*\.json",
    "cost": r"experiments/.*/costs/.*",
    "table": r"experiments/.*/(table-\d|left-out)\.csv",
    "facts of an experiment": r"experiments/.*/facts\.json",
    "report": r"experiments/.*/report/(index\.html|a\.png)",
    "inputs of classifiers": r"experiments/.*/(inputs/.*|inputs\.json|nodules\.csv)",
    "scores of a classifier": r"experiments/.*/resnet34/.*",
    "list of files": r".*/files\.json",
}
"""Patterns of keys; together they match every key that a store holds but its marker."""


def furnished_store(folder: Path) -> Store:
    """Create a store with every kind of file, of two nodules."""
    store = reviewable_store(folder, NODULES)
    members, files = [], {}
    for outcome in read_outcomes(store):
        nodule_id, digest = outcome.nodule_id, str(outcome.digest)
        for method in ("cf", "lb"):
            record_verdict(store, Verdict(nodule_id, digest, "choose", method, "ann", False))
        members.append(
            Member(nodule_id, outcome.patient_id, digest, "lb", "ann", False, "train", True)
        )
        files |= read_case_files(store, nodule_id, digest)
    first = members[0]
    item = StudyItem(first.nodule_id, first.digest, "cf", ("reader-1", "matte"), True)
    create_study(store, Study("s", 1, 1, "", (item,), "ann", "2026-01-01T00:00:00+00:00"))
    record_verdict(
        store, Verdict(first.nodule_id, first.digest, "choose", "matte", "bob", False, study="s")
    )
    write_run(store, Run("dicom", "paper", NODULES, 0, 0, "complete", host="h", process=1))
    own = {"README.md": b"a card\n" * 9, "splits.csv": b"nodule,split\nP-1-a1,train\n"}
    for version in ("0.1.0", "0.2.0"):
        publish_release(store, version, Draft(tuple(members), (), files, own, {}), publisher="ann")
    withdraw_release(store, "0.1.0", "mislabelled", by="ann")
    checkpoint = write_checkpoint(store, TENSORS, checkpoint_config(), {})
    prefix = checkpoint_prefix(checkpoint.digest)
    own = {name: store.get(f"{prefix}/{name}") for name in (CONFIG, WEIGHTS)}
    metadata = b'{"license": "CC-BY-4.0"}'
    write_network(store, "small", {**own, CARD: b"# small\n" * 9, METADATA: metadata})
    write_state(store, "t", TENSORS, STATE)
    write_training_end(store, "t", checkpoint.digest)
    write_preview(store, "t", {"curves.png": b"\x89PNG" * 20, "losses.csv": b"epoch,loss\n1,0.5\n"})
    write_nodule_scores(store, "0.1.0", METHOD_SCORES, first.nodule_id, SCORES)
    write_scores(store, "0.1.0", "test", METHOD_SCORES, SCORES, synthetic=True)
    write_cost(store, "0.1.0", "abc", COST)
    write_table(store, "0.1.0", "paper", 1, [ROW])
    write_table(store, "0.1.0", "paper", 3, [COST])
    left_out = LeftOutScore("P-1-a1", 0, "cf", 10, 0.1, 0.2, "1 2", "0.1 0.2", "1 1")
    write_left_out(store, "0.1.0", "abc", "P-1-a1", [left_out])
    row = LeftOutRow("all", "cf", 1, 1, 0.1, 0.2, 0.3, 0.0, -0.1, 0.1)
    write_left_out_table(store, "0.1.0", "paper", [row])
    write_facts(store, "0.1.0", "paper", experiment_facts())
    write_report(store, "0.1.0", "paper", {"index.html": b"<p>" * 30, "a.png": b"\x89PNG" * 20})
    prefix = diagnosis_prefix("0.1.0", "abc")
    cubes = np.linspace(0, 1, 54).reshape(2, 3, 3, 3).astype(np.float16)
    rated = [RatedNodule(member.nodule_id, "P", 4.25, True, 1 / 3) for member in members]
    write_inputs(store, prefix, rated, [("CF+", cubes)])
    write_run_scores(store, prefix, "resnet34", "CF+", 1, [NoduleScore("P-1-a1", 0, 0.1)])
    return store


def keys_of(store: Store, kind: str) -> list[str]:
    """Return the keys of a kind, sorted."""
    return sorted(k for k in store.list_prefix("") if re.fullmatch(KINDS[kind], k))


def damage(data: bytes, dice: random.Random) -> bytes:
    """Damage bytes as disks, copies and editors do; they differ from the good ones."""
    place = dice.randrange(len(data))
    length = dice.randrange(1, 64)
    ways = (
        data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :],
        data[:place],
        b"",
        data[:place] + bytes(len(data[place : place + length])) + data[place + length :],
        data[:place] + data[place + length :],
        data[:place] + dice.randbytes(length) + data[place:],
        data + data,
        b"[" * 100_000,
        b"\xff\xfe" + data.decode("latin-1").encode("utf-16-le"),
        b'{"a": 1e999, "b": ' + b"9" * 10_000 + b"}",
    )
    spoiled = dice.choice(ways)
    return spoiled if spoiled != data else data + b"\n"
