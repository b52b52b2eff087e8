"""`halosign report`: a page of any store or release, drawn by any number of processes."""

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from flows.cli.main import app
from flows.report import report
from matting.errors import InputError
from storage.cases.case import read_case_files, write_case
from storage.cases.outcomes import write_outcome
from storage.cases.runs import write_run
from storage.layout import RUNS
from storage.records import Member, Outcome, Run
from storage.releases.release import Draft, publish_release, withdraw_release
from tests.cases import new_case
from tests.phantoms import ball_patch

NODULES = ("A-1", "B-1", "C-1")


@pytest.fixture
def curated(store):
    """Three finished nodules, one that was refused, and release 0.1.0 of the first two."""
    files = {}
    for seed, name in enumerate(NODULES):
        digest = f"{seed}" * 64
        patch = ball_patch(seed=seed)
        write_case(store, new_case(digest, patch=patch, nodule=name, patient=name[0]))
        done = Outcome(name, name[0], "done", "write", digest=digest, seconds={"solve": 3.0})
        write_outcome(store, done)
        files |= read_case_files(store, name, digest)
    write_outcome(store, Outcome("D-1", "D", "refused", "trimap", reason="they share no voxel"))
    write_run(store, Run("table.csv", "improved", 4, 0, 0, "complete", wall_s=75.0))
    splits = ("train", "test")
    members = tuple(
        Member(name, name[0], f"{n}" * 64, "lb", "ann", False, splits[n], True)
        for n, name in enumerate(NODULES[:2])
    )
    publish_release(store, "0.1.0", Draft(members, ("E-1",), files, {}, {}), publisher="ann")
    return store


def test_a_store_is_reported_by_the_command_line(curated, tmp_path):
    page = tmp_path / "report.html"
    done = CliRunner().invoke(
        app,
        ["report", "--store", curated.url, "--out", str(page), "--pictures", "none"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert f"{page}: 0.0 MB\n" in done.output
    html = page.read_text()
    assert [f'id="nodule-{name}"' in html for name in (*NODULES, "D-1")] == [True] * 3 + [False]
    for words in ("they share no voxel", "1 min 15 s", "of the last run", "improved", curated.url):
        assert words in html


def test_a_release_is_reported_without_what_the_store_holds_besides(curated, tmp_path):
    page = tmp_path / "report.html"
    report(curated.url, page, "0.1.0", pictures="none")
    html = page.read_text()
    assert [f'id="nodule-{name}"' in html for name in NODULES] == [True, True, False]
    for words in ("they share no voxel", curated.url, "WITHDRAWN"):
        assert words not in html
    assert "Discarded by reviewers" in html
    assert "asks for opacity" in html  # as the picks answer
    withdraw_release(curated, "0.1.0", "readers swapped", by="ann")
    report(curated.url, page, "0.1.0", pictures="none")
    assert "WITHDRAWN" in page.read_text()
    assert "readers swapped" in page.read_text()


def test_a_damaged_record_of_a_run_costs_only_itself(curated, tmp_path, capsys):
    write_run(curated, Run("t", "r", 1, 0, 0, started="2999-01-01T00:00:00+00:00"))
    last = max(curated.list_dir(RUNS)[1])
    curated.put(f"{RUNS}/{last}", b"{")
    report(curated.url, tmp_path / "report.html", pictures="none")
    assert "wall time" not in (tmp_path / "report.html").read_text()
    assert "the last run is not shown" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("out", "chosen", "words"),
    [
        ("report", {}, r"a report is a page of HTML: got .*report, expected a file that ends in"),
        ("r.html", {"version": "9.9.9"}, "9.9.9"),
        ("r.html", {"pictures": "beside"}, "cannot be placed there: got beside, expected inside"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(curated, tmp_path, out, chosen, words):
    with pytest.raises(InputError, match=words):
        report(curated.url, tmp_path / out, **chosen)
    assert not (tmp_path / out).exists()


def test_linked_pages_are_drawn_one_by_one(curated, tmp_path, monkeypatch):
    for name in ("draw_anatomy", "draw_mattes"):
        monkeypatch.setattr(f"qc.report.nodules.{name}", lambda _: Figure(figsize=(1, 1)))
    report(curated.url, tmp_path / "r.html", pictures="linked", workers=1)
    assert {p.name for p in (tmp_path / "r.html.d").iterdir()} == {f"{n}.html" for n in NODULES}


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(curated, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.report.FEW", 0)
    written = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        report(curated.url, folder / "r.html", pictures="linked", workers=workers)
        files = [path for path in folder.rglob("*") if path.is_file()]
        written.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert len(written[0]) == 4
    assert written[0] == written[1]
