"""What the commands print, from records made by hand."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer import BadParameter

from flows.cli.options import parse_duration, write_duration
from flows.cli.printing import (
    StoreStatus,
    _estimate,
    plan_json,
    show_experiments,
    show_garbage,
    show_plan,
    show_release,
    show_releases,
    show_reproduction,
    show_result,
    show_scores,
    show_status,
    show_why,
    status_json,
    warn_of_other_question,
)
from flows.engine.result import CurationResult
from matting.errors import InputError
from qc.studies.agreement import Estimate
from storage.cases.outcomes import Outcome, write_outcome
from storage.cases.runs import Run
from storage.maintenance.gc import CaseFiles, Garbage
from storage.recipe import Recipe
from storage.records import Manifest, Member
from storage.releases.release import Draft, publish_release
from storage.results.experiments import Averages, write_table
from storage.results.scores import Line
from storage.sources.base import Exclusion, Nodule
from storage.store import StoredFile
from tasks.curation.plan import Plan, PlannedAction
from tasks.reproduce import Reproduction

DONE = Outcome("n1", "P1", "done", "write", stored_bytes=1_500_000, computed=True)
STORED = Outcome("n2", "P2", "done", "write", stored_bytes=500_000)
REFUSED = Outcome("n3", "P3", "refused", "trimap", "no shared voxel [empty]")
FAILED = Outcome("n4", "P4", "failed", "solve", "MemoryError")
ONE_READER = Outcome("n5", "P5", "refused", "select", "1 reader, 4 required")
EXCLUSION = Exclusion("n5", "P5", "1 reader, 4 required")


def action(outcome: Outcome, compute: bool, reason: str) -> PlannedAction:
    return PlannedAction(
        Nodule(outcome.nodule_id, outcome.patient_id, {}), compute, reason, outcome
    )


def plan(
    *actions: PlannedAction, exclusions: tuple[Exclusion, ...] = (EXCLUSION,), finished: int = 2
) -> Plan:
    return Plan(
        actions,
        exclusions,
        12.4,
        3_260_000,
        "paper",
        finished,
        expected_peak_bytes=1_310_000_000.0,
    )


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_plan_counts_nodules_by_reason(capsys, monkeypatch):
    monkeypatch.setattr("tasks.curation.plan.is_compiled", lambda: True)
    show_plan(
        plan(
            action(FAILED, True, "new"),
            action(DONE, True, "new"),
            action(STORED, False, "up to date"),
        ),
        workers=2,
    )
    assert printed(capsys) == [
        "2 nodules to compute, 1 unchanged, 1 excluded; paper form",
        "      2  reason: new",
        "      1  reason: up to date",
        "      1  excluded: 1 reader, 4 required",
        "expected: 0:00:14 with 2 workers here (12 s of work), 3.3 MB (estimated from 2 finished "
        "nodules)",
        "memory: up to 1,310 MB per worker",
    ]


def test_a_plan_without_work_needs_no_memory_and_without_history_is_typical(capsys):
    show_plan(plan(action(DONE, False, "up to date"), exclusions=(), finished=0), workers=1)
    assert printed(capsys) == [
        "0 nodules to compute, 1 unchanged, 0 excluded; paper form",
        "      1  reason: up to date",
        "expected: 0:00:08 with 1 worker here (12 s of work), 3.3 MB (estimated from typical "
        "nodules)",
    ]


def test_a_result_lists_every_nodule_that_is_not_done(capsys):
    planned = plan(action(FAILED, True, ""), action(REFUSED, False, ""), action(STORED, False, ""))
    result = CurationResult(planned, (DONE, FAILED), 7.5, "run aborted: [budget]")
    show_result(result)
    assert printed(capsys) == [
        "1 computed, 0 up to date, 0 invalid input, 1 failed; 2 unchanged, "
        "1 excluded; paper form; 7.5 s",
        "invalid input or failed:",
        "  n4  failed at solve  MemoryError",
        "  n3  invalid input at trimap  no shared voxel [empty]",
        "      1  excluded: 1 reader, 4 required",
        "run aborted: [budget]",
    ]
    assert not result.is_clean


@pytest.mark.parametrize(
    ("outcomes", "unchanged", "aborted", "is_clean"),
    [
        ((DONE, STORED), STORED, "", True),
        ((DONE, FAILED), STORED, "", False),
        ((DONE,), REFUSED, "", False),
        ((DONE,), STORED, "the scheduler is lost", False),
    ],
)
def test_a_run_is_clean_if_every_nodule_is_done(outcomes, unchanged, aborted, is_clean):
    result = CurationResult(plan(action(unchanged, False, "")), outcomes, 1.0, aborted)
    assert result.is_clean == is_clean


def test_exclusions_of_several_reasons_are_only_counted(capsys):
    others = (EXCLUSION, Exclusion("n6", "P6", "2 readers, 4 required"))
    show_plan(plan(exclusions=others), workers=1)
    assert printed(capsys)[0] == "0 nodules to compute, 0 unchanged, 2 excluded; paper form"


def test_the_state_of_a_store_for_programs():
    run = Run(
        "scans",
        "paper",
        3,
        1,
        1,
        "complete",
        {"computed": 6},
        7200.0,
        started="t",
        host="h",
        process=1,
    )
    named = replace(DONE, form="paper")
    found = status_json(StoreStatus([named, STORED, REFUSED, FAILED, ONE_READER], run))
    assert json.loads(json.dumps(found)) == {
        "states": {"done": 2, "refused": 1, "failed": 1},
        "forms": {"first edition": 1, "paper form": 1},
        "left_out": 1,
        "stand_in": False,
        "stored_bytes": 2_000_000,
        "chosen": {},
        "releases": [],
        "unfit": [
            {"nodule": "n3", "state": "refused", "stage": "trimap", "reason": REFUSED.reason},
            {"nodule": "n4", "state": "failed", "stage": "solve", "reason": "MemoryError"},
        ],
        "unreachable": [],
        "excluded": [{"nodule": "n5", "reason": "1 reader, 4 required"}],
        "last_run": {
            "source": "scans", "recipe": "paper", "to_compute": 3, "kept": 1, "left_out": 1,
            "ending": "complete", "states": {"computed": 6}, "wall_s": 7200.0, "stopped": "",
            "started": "t", "host": "h", "process": 1,
            "nodules_per_hour": 3.0,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ({"ending": "none"}, "last run: started t on h, running, or killed"),
        ({"ending": "complete"}, "last run: started t on h, complete"),
        ({"ending": "stopped early", "stopped": "budget"}, "last run: started t on h, budget"),
        (
            {"ending": "complete", "states": {"computed": 1500}, "wall_s": 3600.0},
            "last run: started t on h, complete, 1,500 nodules per hour",
        ),
    ],
)
def test_the_state_of_a_store_for_people(capsys, run, line):
    synthetic = Outcome("n1", "P1", "done", "write", synthetic=True, stored_bytes=1_234_000)
    last = Run("scans", "paper", 3, 1, 1, started="t", host="h", **run)
    improved = replace(synthetic, stored_bytes=0, form="improved")
    show_status(StoreStatus([synthetic, improved, improved, REFUSED, ONE_READER], last))
    assert printed(capsys) == [
        "3 done, 1 invalid input, 0 failed, 1 excluded; 1.2 MB stored",
        "mattes: first edition 1, improved form 2",
        "synthetic data: some or all scans are simulated",
        line,
        "invalid input or failed:",
        "  n3  invalid input at trimap  no shared voxel [empty]",
        "      1  excluded: 1 reader, 4 required",
    ]


def test_what_people_read_stays_short_whatever_the_size_of_the_archive(capsys):
    failed = [replace(FAILED, nodule_id=f"f{n}") for n in range(300)]
    excluded = [replace(ONE_READER, nodule_id=f"e{n}") for n in range(1000)]
    show_status(StoreStatus([*failed, *excluded], None, {"cf+": 2}, ("0.1.0", "0.2.0")))
    lines = printed(capsys)
    assert len(lines) < 30
    assert "  and 280 more: `halosign list` prints all" in lines
    assert "   1000  excluded: 1 reader, 4 required" in lines
    assert lines[-2:] == ["chosen: cf+ 2", "releases: 0.1.0, 0.2.0"]


def test_a_plan_for_programs_names_every_nodule():
    found = plan_json(plan(action(FAILED, True, "new"), action(STORED, False, "up to date")))
    assert json.loads(json.dumps(found)) == {
        "form": "paper",
        "nodules": [
            {"nodule": "n4", "compute": True, "reason": "new"},
            {"nodule": STORED.nodule_id, "compute": False, "reason": "up to date"},
        ],
        "excluded": [{"nodule": "n5", "reason": "1 reader, 4 required"}],
        "expected_seconds": 12.4,
        "expected_bytes": 3_260_000,
        "expected_peak_bytes": 1_310_000_000.0,
        "finished_nodules": 2,
    }


def test_an_empty_store_has_no_last_run(capsys):
    show_status(StoreStatus([]))
    assert printed(capsys) == ["0 done, 0 invalid input, 0 failed, 0 excluded; 0.0 MB stored"]


def test_why_without_a_source_shows_the_outcome_only(capsys, store):
    write_outcome(store, REFUSED)
    show_why(store, "n3", None)
    hint = "with --dicom or --files, this also says whether a run would compute it"
    assert printed(capsys) == [
        "n3: invalid input at trimap no shared voxel [empty]",
        "case: none",
        hint,
    ]
    with pytest.raises(InputError, match="no such nodule: got n9, expected some of its 1 nodules"):
        show_why(store, "n9", None)


def test_why_with_a_source_says_what_a_run_would_do(capsys, store, monkeypatch):
    from storage.sources.base import Inventory

    inventory = Inventory((Nodule("n1", "P1", {}), Nodule("n2", "P2", {})), (EXCLUSION,))
    monkeypatch.setattr("flows.cli.printing.take_inventory", lambda *_: inventory)
    reachable = SimpleNamespace(find_unreachable=lambda _: "")
    monkeypatch.setattr("tasks.curation.plan.open_source", lambda *_: reachable)
    for nodule in ("n5", "n2"):
        show_why(store, nodule, SimpleNamespace(source=None, recipe=Recipe()))
    assert printed(capsys) == [
        "n5: not in this store",
        "would be excluded: 1 reader, 4 required",
        "n2: not in this store",
        "would be computed: new: not in this store",
    ]
    with pytest.raises(InputError, match="no such nodule: got n9, expected some of its 2 nodules"):
        show_why(store, "n9", object())


@pytest.mark.parametrize(
    ("deleted", "verb"), [(False, "found (--delete removes them)"), (True, "removed")]
)
def test_garbage_is_counted_by_kind(capsys, deleted, verb):
    case = CaseFiles("n1", "d" * 64, (StoredFile("k", 1_500_000, datetime.now(UTC)),))
    show_garbage(Garbage((case,) * 3, (case,) * 2, (Path("f"),)), timedelta(hours=24), deleted)
    assert " ".join(printed(capsys)) == (
        f"{verb}: 3 incomplete cases, 2 unreferenced cases, 7.5 MB; "
        "1 incomplete files of interrupted writes"
    )


def test_what_is_kept_is_named_with_the_reason(capsys):
    case = CaseFiles("n1", "d" * 64, (StoredFile("k", 1, datetime.now(UTC)),))
    run = Run("/dicom", "paper", 1, 0, 0, started="2026-01-01T00:00:00", host="node", process=7)
    garbage = Garbage(young=(case,), uncertain=(case,), open_runs=(run,), lost=("0.1.0: lost.",))
    show_garbage(garbage, timedelta(minutes=90), deleted=True)
    text = " ".join(printed(capsys))
    assert "1 cases that no record refers to and that were written within 90m (--grace)" in text
    assert "a curation may be writing: started 2026-01-01T00:00:00 on node, process 7" in text
    assert "1 cases to which a lost record may refer" in text
    assert "0.1.0: lost." in text


@pytest.mark.parametrize(
    ("text", "duration"),
    [("90m", timedelta(minutes=90)), ("24h", timedelta(days=1)), ("7d", timedelta(days=7))],
)
def test_a_duration_is_read_and_written(text, duration):
    assert parse_duration(text) == duration
    assert parse_duration(write_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "24", "-1h", "1.5h", "h", "1w", "9999999d"])
def test_any_other_duration_is_refused(text):
    with pytest.raises(BadParameter, match="expected minutes, hours or days"):
        parse_duration(text)


def test_a_reproduction_names_what_differs(capsys):
    show_reproduction(
        "0.1.0", [Reproduction("n1", ""), Reproduction("n2", ""), Reproduction("n3", "[x]")]
    )
    assert printed(capsys) == ["0.1.0: 2 nodules reproduced, 1 different", "n3  [x]"]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(None, None, None, 3), "undefined over 3 nodules"),
        (Estimate(0.456, None, None, 3), "0.46 over 3 nodules"),
        (Estimate(0.456, 0.123, 0.789, 9), "0.46 (0.12 to 0.79) over 9 nodules"),
    ],
)
def test_an_estimate_has_an_interval_where_there_is_one(estimate, text):
    assert _estimate(estimate) == text


@pytest.fixture
def synthetic_release(monkeypatch):
    monkeypatch.setattr("flows.cli.printing._release_note", lambda *_: "synthetic data, ")


def cells(lines: list[str]) -> list[list[str]]:
    """The rows of the printed tables, without their borders."""
    return [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")
    ]


def test_scores_are_printed_in_the_units_of_the_literature(capsys, store, synthetic_release):
    means = {"sad": 123.4, "mse": 0.0123, "grad": 45.67, "conn": 8.9}
    spread = dict.fromkeys(means, 0.0)
    lines = [
        Line("cf", "released", "whole", 3, means, spread),
        Line("lb", "known", "near", 2, means, spread),
    ]
    show_scores(store, "0.1.0", "test", lines)
    out = printed(capsys)
    titles = " ".join(" ".join(line for line in out if "│" not in line).split())
    assert "0.1.0, synthetic data, test: against the released matte, the whole patch" in titles
    assert "against the known alpha of the simulation" in titles
    values = ["12.34", "12.30", "4.57", "0.89"]
    assert cells(out) == [["cf", "3", *values], ["lb", "2", *values]]
    assert out[-1] == f"scores per nodule: {store.url}/metrics/0.1.0/test"


def test_experiments_have_deviations_over_partitions_where_there_are_several(
    capsys, store, synthetic_release
):
    def row(matte, deviation, region="whole"):
        values = (100.0, deviation, 0.002, deviation, 30.0, deviation, 4.0, deviation)
        return Averages(matte, "released", region, "0 1", "3 4", *values)

    write_table(
        store, "0.1.0", "tiny", 1, [row("cf", 20.0), row("knn", None), row("cf", None, "near")]
    )
    write_table(store, "0.1.0", "tiny", 2, [])
    write_table(store, "0.1.0", "tiny", 3, [])
    show_experiments(store, "0.1.0", "tiny")
    out = printed(capsys)
    assert cells(out) == [
        ["cf", "3 4", "10.00 ± 2.00", "2.00 ± 20000.00", "3.00 ± 2.00", "0.40 ± 2.00"],
        ["knn", "3 4", "10.00", "2.00", "3.00", "0.40"],
    ]
    assert not [line for line in out if "Table 3" in line]
    assert out[-1] == f"other regions: {store.url}/experiments/0.1.0/tiny/table-1.csv"


def manifest_of(*methods: str, target: str | None = "density", form="improved") -> Manifest:
    members = {
        f"n{n}": Member(f"n{n}", "P", "d" * 64, method, "ann", False, "train", False, form)
        for n, method in enumerate(methods)
    }
    return Manifest(
        version="0.1.0",
        published_at="2026",
        publisher="ann",
        synthetic=False,
        recipe={"review": {"target": target}} if target else {"review": {}},
        members=members,
        discarded=(),
        own_files={},
        case_files={},
    )


def test_a_release_names_form_and_question(capsys):
    show_release(manifest_of("cf+"))
    text = " ".join(capsys.readouterr().out.split())
    assert "improved form; question: density" in text
    show_release(manifest_of("cf+", target=None, form=None))
    text = " ".join(capsys.readouterr().out.split())
    assert "first edition" in text
    assert "question" not in text


def test_the_list_of_releases_names_the_form(capsys, store):
    member = Member("P-1", "P", "d" * 64, "lb", "ann", False, "train", False, "custom")
    publish_release(store, "0.1.0", Draft((member,), (), {}, {}, {}), publisher="ann")
    show_releases(store)
    assert capsys.readouterr().out.strip().endswith("1 nodule  custom parameters")


@pytest.mark.parametrize(
    ("manifest", "warning"),
    [
        (manifest_of("cf+", "knn"), "1 of 2 mattes, chosen by reviewers, do not answer the"),
        (manifest_of(*["lb"] * 7), "n4 (lb) and 2 more"),
        (manifest_of("cf+", "lb+"), ""),
        (manifest_of("cf", "knn+", target=None), ""),
    ],
)
def test_what_answers_another_question_is_named(capsys, manifest, warning):
    warn_of_other_question(manifest)
    out = " ".join(capsys.readouterr().out.split())
    assert warning in out
    assert bool(out) == bool(warning)
