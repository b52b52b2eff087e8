"""The report of small stores: what it says, that it loads nothing from outside, and that it is
whole or not there."""

import ast
import hashlib
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from matting.geometry.grid import Grid
from matting.geometry.patch import Patch
from qc.report import page as page_module
from qc.report.build import ReleaseFacts, RunSummary, build_page, render, write_report
from qc.report.entries import Pictures
from qc.report.nodules import kind_of
from qc.report.page import FormErrors, FormTable, ReportPage, TrainingFacts, TrainingScore
from storage.cases.case import NewCase, write_case
from storage.cases.outcomes import write_outcome
from storage.records import CandidateScores, Manifest, Member, Outcome, SolverReport, TrimapFacts
from storage.store import Store, open_store
from tests.cases import case_facts, lidc_facts

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")
SHAPE = (8, 14, 14)
CONVERGED = "The solver reached its tolerance and the matte lies within 0..1."
GAVE_UP = "The solver used up its iterations before it reached its tolerance."
HOSTILE = "<script>alert('x')</script>&\"<img src=x onerror=y>"
VOID = {"meta", "img", "br", "hr", "input", "link", "source"}
PLAIN_LINKS = ("https://arxiv.org/", "https://doi.org/", "https://creativecommons.org/")
PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
RUN = RunSummary("2026-01-02T03:04:05+00:00", 95.0, 3, "/data/store", "paper")
ERRORS = {name: 0.05 + 0.01 * place for place, name in enumerate(METHODS)}
TRIVIAL = {"readers_mean": 0.2, "best_reader": 0.3, "hu_linear": 0.055}


class Outline(HTMLParser):
    """Follows a page's tags and complains where they are not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += f" {data}"

    def values(self, attribute: str) -> list[str]:
        return [
            str(attributes[attribute]) for _, attributes in self.tags if attribute in attributes
        ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), create=True)


def add_case(store: Store, nodule_id: str, *, missing: tuple[str, ...] = (), **facts: Any) -> None:
    """Store a small ball as a finished nodule."""
    places = np.moveaxis(np.indices(SHAPE), 0, -1)
    distance = np.linalg.norm(places - np.array([4, 7, 7]), axis=-1)
    matte = np.clip(4 - distance, 0, 1)
    synthetic = bool(facts.get("synthetic"))
    patch = Patch(
        grid=Grid(SHAPE, (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)),
        image_hu=(40 - 800 * (1 - matte)).astype(np.float32),
        valid=np.ones(SHAPE, bool),
        readers=np.stack([distance < radius for radius in (2.5, 3.0, 3.5, 3.2)]),
        known_alpha=matte.astype(np.float32) if synthetic else None,
    )
    trimap = np.where(distance < 1.5, 255, np.where(distance < 4.5, 128, 0)).astype(np.uint8)
    alphas = {name: None if name in missing else matte for name in METHODS}
    digest = f"{nodule_id}-digest"
    patient = nodule_id.partition("-a")[0]
    about = case_facts(nodule_id, digest, patch.grid, METHODS, **{"patient": patient, **facts})
    write_case(store, NewCase(about, patch, trimap, alphas))
    outcome = Outcome(
        nodule_id,
        "P",
        "done",
        "write",
        digest=digest,
        computed=True,
        seconds={"solve": 3.0, "crop": 1.0},
    )
    write_outcome(store, outcome)


def full_facts(*, missing: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    reports = {
        name: SolverReport(
            status=GAVE_UP if name in missing else CONVERGED,
            converged=name not in missing,
            iterations=41,
            residual=7.25e-8,
            clipped=0.0125,
        )
        for name in METHODS
    }
    scores = CandidateScores(
        methods={
            name: {"cross_entropy": 0.321 + 0.01 * ("if" not in name), "novelty": 0.5}
            for name in METHODS
            if name not in missing
        },
        differences={},
        tied=(("cf", "lb"),),
    )
    facts = {
        "reports": reports,
        "scores": scores,
        "source": lidc_facts([{"annotation_id": 7, "texture": 5, "malignancy": 3}] * 4),
        "trimap": TrimapFacts(0.5, 9, 1234),
    }
    return {**facts, **more}


TRAINING = TrainingFacts(
    *("3DMM-MG", 7, "paper form, opacity", 60, 64.0, "cpu", "0" * 64, PIXEL, PIXEL),
    *("the known alpha", "near", (TrainingScore("3DMM-MG", True, 2, (1.0, 0.1, 1.0, 1.0)),)),
)


def report(store: Store, path: Path, **options: Any) -> str:
    write_report(store, path, **{"title": "Nodules", "run": RUN, "pictures": "none", **options})
    return path.read_text()


def test_the_page_is_well_formed_and_loads_nothing_from_outside(
    store: Store, tmp_path: Path
) -> None:
    add_case(store, "P1-a1", **full_facts(synthetic=True, errors=ERRORS | TRIVIAL))
    release = ReleaseFacts("1.2.0", {"train": 7, "test": 2}, {"train": 5, "test": 1}, True)
    html = report(
        store, tmp_path / "report.html", picks={"P1-a1": "cf"}, release=release, pictures="inside"
    )
    outline = Outline(html)
    assert all(source.startswith("data:image/png;base64,") for source in outline.values("src"))
    links = [link for link in outline.values("href") if not link.startswith("#")]
    assert links
    assert all(link.startswith(PLAIN_LINKS) for link in links)
    assert {tag for tag, _ in outline.tags}.isdisjoint({"link", "iframe", "object", "base", "form"})
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == html.count("<script") == 1
    allowed = b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'\">" in html
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html


def test_the_page_can_be_heard_and_walked(store: Store, tmp_path: Path) -> None:
    add_case(store, "P1-a1", **full_facts())
    outline = Outline(report(store, tmp_path / "report.html", pictures="inside"))
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(images) == 3
    assert all("P1-a1" in str(image["alt"]) for image in images)
    names = [tag for tag, _ in outline.tags]
    assert names.count("caption") == names.count("table")
    levels = [int(tag[1]) for tag in names if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    anchors = outline.values("id")
    assert len(anchors) == len(set(anchors))
    assert {link[1:] for link in outline.values("href") if link.startswith("#")} <= set(anchors)
    assert dict(outline.tags)["html"]["lang"] == "en"


@pytest.mark.parametrize("pictures", ["inside", pytest.param("linked", marks=pytest.mark.slow)])
def test_a_browser_asks_for_nothing_else_and_finds_no_fault(
    pictures: Pictures,
    look_at_file: Callable[[Path], None],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("draw_anatomy", "draw_mattes"):  # whose own tests are elsewhere
        monkeypatch.setattr(f"qc.report.nodules.{name}", lambda _: Figure(figsize=(1, 1)))
    add_case(store, "P1-a1", **full_facts(synthetic=True, errors=ERRORS | TRIVIAL))
    for place in range(8):
        refused = Outcome(f"Q1-a{place}", "Q1", "refused", "trimap", reason="they share no voxel")
        write_outcome(store, refused)
    forms = FormTable(("paper", "improved"), 1, (FormErrors("cf", True, 1, (0.2, 0.1)),))
    release = ReleaseFacts("1.2.0", {"train": 7, "test": 2}, {"train": 5, "test": 1}, True)
    path = tmp_path / "report.html"
    report(
        store,
        path,
        **{"picks": {"P1-a1": "cf"}, "release": release, "pictures": pictures},
        **{"training": TRAINING, "forms": forms},
    )
    look_at_file(path)
    for page in tmp_path.glob("report.html.d/*.html"):
        look_at_file(page)


def test_the_page_of_a_network_begins_with_the_network(store: Store, tmp_path: Path) -> None:
    add_case(store, "P1-a1", **full_facts())
    text = report(store, tmp_path / "network.html", training=TRAINING)
    sections = re.findall(r'<h2 id="(\w+)"', text)
    assert sections[:2] == ["training", "how"]
    assert re.findall(r'<a href="#(\w+)"', text)[: len(sections)] == sections


@pytest.mark.parametrize("synthetic", [True, False])
def test_the_stand_in_banner_is_there_exactly_when_due(
    store: Store, tmp_path: Path, synthetic: bool
) -> None:
    add_case(store, "P1-a1", **full_facts())
    add_case(store, "P1-a2", **full_facts(synthetic=synthetic))
    text = Outline(report(store, tmp_path / "report.html")).text
    assert ("SYNTHETIC DATA" in text) is synthetic
    assert ("1 of 2 nodules" in text) is synthetic
    assert text.count("SYNTHETIC") == (3 if synthetic else 0)


def test_what_others_wrote_is_escaped(store: Store, tmp_path: Path) -> None:
    facts = full_facts(patient=HOSTILE)
    facts["reports"]["cf"] = replace(facts["reports"]["cf"], status=HOSTILE)
    facts["scores"].methods["cf"] = {HOSTILE: 1.0}
    facts["source"] = lidc_facts([{"texture": 5, HOSTILE: HOSTILE}])
    add_case(store, "P1-a1", **facts)
    write_outcome(store, Outcome("<b>x", HOSTILE, "failed", "scan", reason=HOSTILE))
    run = replace(RUN, store_url=HOSTILE, recipe=HOSTILE, started=HOSTILE)
    release = ReleaseFacts(HOSTILE, {HOSTILE: 1})
    html = report(
        store,
        tmp_path / "report.html",
        title=HOSTILE,
        run=run,
        picks={"P1-a1": HOSTILE},
        release=release,
    )
    assert html.count("<script") == 1  # the page's own
    assert "<b>x" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;") >= 10
    assert HOSTILE in Outline(html).text


def test_all_nodules_and_all_reasons_are_listed(store: Store, tmp_path: Path) -> None:
    for name in ("P1-a1", "P1-a2"):
        add_case(store, name, **full_facts())
    for place in range(9):
        left_out = Outcome(f"Q{place}-a1", "Q", "refused", "select", reason="marked by 1 reader")
        write_outcome(store, left_out)
    write_outcome(
        store, Outcome("R1-a1", "R1", "refused", "trimap", reason="the readers share no voxel")
    )
    write_outcome(
        store, Outcome("R1-a2", "R1", "failed", "write", reason="Unavailable: the store is away")
    )
    write_outcome(store, Outcome("R1-a3", "R1", "done", "write", digest="gone"))
    outline = Outline(report(store, tmp_path / "report.html"))
    for words in (
        "P1-a1",
        "P1-a2",
        "R1-a1",
        "R1-a2",
        "R1-a3",
        *(f"Q{place}-a1" for place in range(9)),
    ):
        assert words in outline.text
    for words in (
        "marked by 1 reader",
        "the readers share no voxel",
        "the store is away",
        "R1-a3/gone",
    ):
        assert words in outline.text
    assert "#nodule-P1-a2" in outline.values("href")


@pytest.mark.parametrize(
    "attributes", ['{"halosign": {}}', '{"halosign": {"methods": []}}', "{}", None]
)
def test_a_damaged_case_is_reported_and_costs_no_other(
    store: Store, tmp_path: Path, attributes: str | None
) -> None:
    for name in ("P1-a1", "P1-a2"):
        add_case(store, name, **full_facts())
    metadata = Path(store.url, "cases", "P1-a1", "P1-a1-digest", "zarr.json")
    if attributes is None:
        metadata.unlink()
    else:
        metadata.write_text(
            f'{{"zarr_format": 3, "node_type": "group", "attributes": {attributes}}}'
        )
    page = build(store)
    assert [nodule.id for nodule in page.nodules] == ["P1-a2"]
    assert [(reason.kind, reason.nodules) for reason in page.reasons] == [
        ("unreadable", ("P1-a1",))
    ]
    assert "The case cannot be read" in Outline(report(store, tmp_path / "report.html")).text


def test_the_counts_tell_the_states_apart(store: Store) -> None:
    add_case(store, "P1-a1", **full_facts())
    add_case(store, "P1-a2", **full_facts(synthetic=True))
    write_outcome(store, Outcome("R1-a1", "R1", "refused", "trimap", reason="r"))
    for place in range(3):
        write_outcome(store, Outcome(f"S1-a{place}", "S1", "failed", "write", reason="f"))
    for place in range(4):
        write_outcome(store, Outcome(f"T1-a{place}", "T1", "refused", "select", reason="s"))
    write_outcome(store, Outcome("U1-a1", "U1", "done", "write", digest="gone", computed=True))
    counts = build(store).counts
    assert (counts.done, counts.computed, counts.refused, counts.failed) == (2, 2, 1, 3)
    assert (counts.left_out, counts.unreadable, counts.synthetic) == (4, 1, 1)
    files = [
        path
        for path in Path(store.url, "cases").rglob("*")
        if path.is_file() and path.suffix != ".done"
    ]
    assert counts.stored_bytes == sum(path.stat().st_size for path in files)


def test_time_is_told_by_stage_in_the_order_of_the_work(store: Store) -> None:
    for name in ("P1-a1", "P1-a2"):
        add_case(store, name)
    stages = build(store).stages
    assert [(s.stage, s.seconds, s.percent) for s in stages] == [
        ("crop", 2.0, 25.0),
        ("solve", 6.0, 75.0),
    ]


def test_a_method_without_a_matte_is_not_stored_and_says_why(store: Store, tmp_path: Path) -> None:
    add_case(store, "P1-a1", missing=("knn",), **full_facts(missing=("knn",)))
    text = Outline(report(store, tmp_path / "report.html", pictures="inside")).text
    assert text.count("not stored") == 1
    assert GAVE_UP in text
    assert "No matte: knn" in (tmp_path / "report.html").read_text()
    methods = {method.name: method for method in build(store).nodules[0].methods}
    assert not methods["knn"].stored
    assert methods["knn"].rank is None
    assert {name: methods[name].rank for name in METHODS[4:]} == {
        "if+": 1,
        "cf+": 2,
        "lb+": 3,
        "knn+": 4,  # its plain form has no figures
    }
    plain = {m.name: m.rank for m in build(store, target="opacity").nodules[0].methods if m.rank}
    assert plain == {"if": 1, "cf": 2, "lb": 3}


def test_a_nodules_numbers_are_on_its_page(store: Store, tmp_path: Path) -> None:
    add_case(store, "P1-a1", **full_facts(synthetic=True, errors=ERRORS | TRIVIAL))
    text = Outline(report(store, tmp_path / "report.html", picks={"P1-a1": "lb"})).text
    for words in (
        "0.321",
        "Novelty",
        "41",
        "7.25e-08",
        "0.0125",
        "cf = lb",
        "1,234",
        "P1-a1-digest",
        "Malignancy",
    ):
        assert words in text
    assert "Annotation" not in text
    nodule = build(store, picks={"P1-a1": "lb"}).nodules[0]
    assert nodule.extent_mm == (3.5, 3.5, 3.5)
    assert nodule.pick_error == pytest.approx(0.07)
    assert nodule.regret == pytest.approx(0.02)
    assert nodule.seconds == 4.0
    assert [m.name for m in nodule.methods if m.picked] == ["lb"]
    assert [m.name for m in nodule.methods if m.best] == ["cf"]
    assert dict(nodule.baselines)["HU-linear"] == 0.055


def test_known_figures_are_explained_and_unknown_ones_shown(store: Store, tmp_path: Path) -> None:
    facts = full_facts()
    facts["scores"].methods["cf"] = {
        "mass_outside": 0.4,
        "novelty": 0.625,
        "clipped": 0.125,
    }
    add_case(store, "P1-a1", **facts)
    outline = Outline(report(store, tmp_path / "report.html"))
    assert build(store).nodules[0].metric_names == (
        "mass_outside",
        "novelty",
        "cross_entropy",
    )
    assert "share of the matte outside" in outline.text
    assert "0.625" in outline.text
    assert "0.125" not in outline.text
    assert "slice to slice" not in outline.text


def test_a_case_without_ratings_and_run_is_shown(store: Store, tmp_path: Path) -> None:
    add_case(store, "P1-a1")
    text = Outline(report(store, tmp_path / "report.html", run=None)).text
    assert "not rated" in text
    assert "none yet" in text
    assert "Errors by kind" not in text
    assert "The release" not in text
    assert "wall time" not in text


def test_an_empty_store_gives_a_page_too(store: Store, tmp_path: Path) -> None:
    assert "No nodule has a finished case." in Outline(report(store, tmp_path / "report.html")).text


@pytest.mark.parametrize(
    ("verified", "words"),
    [(True, "Verified:"), (False, "Damaged:"), (None, "not verified for this page")],
)
def test_the_release_says_whether_it_was_verified(
    store: Store, tmp_path: Path, verified: bool | None, words: str
) -> None:
    release = ReleaseFacts("3.1.4", {"train": 71, "test": 29}, verified=verified)
    text = Outline(report(store, tmp_path / "report.html", release=release)).text
    for expected in (words, "3.1.4", "71", "29"):
        assert expected in text


def test_nodules_and_patients_stand_under_their_own_split(store: Store, tmp_path: Path) -> None:
    release = ReleaseFacts("3.1.4", {"train": 71, "test": 29}, {"test": 17, "train": 43})
    words = " ".join(Outline(report(store, tmp_path / "report.html", release=release)).text.split())
    assert "train test nodules 71 29 patients 43 17" in words


def test_the_nodules_of_a_large_store_have_pages_of_their_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("draw_anatomy", "draw_mattes"):  # whose own tests are elsewhere
        monkeypatch.setattr(f"qc.report.nodules.{name}", lambda _: Figure(figsize=(1, 1)))
    names = ["P1-a0", "P1-a1", "P1-a2"]
    for name in names:
        add_case(store, name, **full_facts(synthetic=name == "P1-a2"))
    monkeypatch.setattr("qc.report.build.MAX_INSIDE", 2)
    path = tmp_path / "my report #1.html"
    html = report(store, path, picks={"P1-a0": "cf"}, pictures=None)
    outline = Outline(html)
    assert len(outline.values("src")) == 3  # thumbnails
    assert "The methods on" not in outline.text
    pages = sorted((tmp_path / "my report #1.html.d").iterdir())
    assert [page.name for page in pages] == [f"{name}.html" for name in names]
    for name, page in zip(names, pages, strict=True):
        assert f"my%20report%20%231.html.d/{name}.html" in outline.values("href")
        own = Outline(page.read_text())
        assert len(own.values("src")) == 2
        assert all(source.startswith("data:image/png;base64,") for source in own.values("src"))
        assert f"The methods on {name}" in own.text
        assert ("SYNTHETIC DATA" in own.text) is (name == "P1-a2")
        assert own.text.count("cf \u25c4 picked") == (name == "P1-a0")
        links = [link for link in own.values("href") if not link.startswith("https:")]
        assert [unquote(link) for link in links] == ["../my report #1.html#overview"]
        assert [tag for tag, _ in own.tags].count("h1") == 1
    assert "The methods on" in report(store, path, pictures="none")
    monkeypatch.setattr("qc.report.build.MAX_INSIDE", 3)
    assert "The methods on" in report(store, path, pictures=None)


def test_a_release_is_reported_as_released(store: Store, tmp_path: Path) -> None:
    """Neither later outcomes nor nodules that are not in it count."""
    for name in ("P1-a1", "P1-a2", "P1-a3"):
        add_case(store, name, **full_facts())
    write_outcome(store, Outcome("P1-a1", "P1", "failed", "write", reason="later"))
    write_outcome(store, Outcome("Q1-a1", "Q1", "refused", "trimap", reason="not in it"))
    Path(store.url, "outcomes", "P1-a2.json").unlink()
    members = {
        name: Member(name, "P1", f"{name}-digest", "lb", "ann", False, "train", False)
        for name in ("P1-a1", "P1-a2")
    }
    manifest = Manifest(
        version="1.0.0",
        published_at="2026-01-02T03:04:05+00:00",
        publisher="ann",
        synthetic=False,
        recipe={},
        members=members,
        discarded=("P1-a9",),
        own_files={},
        case_files={},
    )
    page = build(store, manifest=manifest, run=None)
    assert [(nodule.id, nodule.pick) for nodule in page.nodules] == [
        ("P1-a1", "lb"),
        ("P1-a2", "lb"),
    ]
    assert [nodule.seconds for nodule in page.nodules] == [4.0, None]
    assert sum(stage.seconds for stage in page.stages) == 4.0
    assert [(reason.kind, reason.nodules) for reason in page.reasons] == [("discarded", ("P1-a9",))]
    text = Outline(render(page)).text
    assert "1 discarded by reviewers" in " ".join(text.split())
    for words in ("refused", "failed", "later", "not in it", "P1-a3", "last run"):
        assert words not in text
    gone = ReleaseFacts("1.0.0", {"train": 2}, withdrawal="1.0.0 was withdrawn by ann: swapped")
    assert "withdrawn by ann: swapped" in render(replace(page, release=gone))


def test_messages_that_differ_are_one_reason_with_a_folded_list(
    store: Store, tmp_path: Path
) -> None:
    for place in range(30):
        reason = f"slices are missing: got {place} mm, expected 1 mm. Fetch them."
        write_outcome(store, Outcome(f"P{place:02}-a1", "P", "refused", "scan", reason=reason))
    (group,) = build(store).reasons
    assert (group.sentence, len(group.nodules)) == ("slices are missing", 30)
    html = report(store, tmp_path / "report.html")
    details = html[html.index("<details>") : html.index("</details>")]
    assert details.count("slices are missing: got ") == 30
    assert "P07-a1</b>: slices are missing: got 7 mm" in details


def test_a_damaged_array_costs_its_own_nodule(store: Store) -> None:
    for name in ("P1-a1", "P1-a2"):
        add_case(store, name, **full_facts())
    chunk = next(Path(store.url, "cases/P1-a1/P1-a1-digest/labels/readers/0/c").rglob("0"))
    while chunk.is_dir():
        chunk = next(chunk.iterdir())
    chunk.write_bytes(b"damaged")
    page = build(store)
    assert [nodule.id for nodule in page.nodules] == ["P1-a2"]
    assert (page.counts.unreadable, page.reasons[0].nodules) == (1, ("P1-a1",))


def test_the_same_store_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    add_case(store, "P1-a1", **full_facts())
    assert report(store, tmp_path / "one.html", pictures="inside") == report(
        store, tmp_path / "two.html", pictures="inside"
    )


def test_a_report_that_cannot_be_finished_leaves_the_old_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "report.html"
    before = report(store, path)
    seen: list[int] = []

    def refuse(part: Path, target: Path) -> None:
        seen.append(part.stat().st_size)
        assert part.parent == target.parent
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        report(store, path, title="Another")
    assert seen[0] > 1000
    assert path.read_text() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_value_that_the_page_lacks_is_an_error(store: Store) -> None:
    whole = build(store)
    assert "Nodules" in render(whole)
    values = {
        field.name: getattr(whole, field.name)
        for field in fields(ReportPage)
        if field.name != "glossary"
    }
    with pytest.raises(UndefinedError, match="glossary"):
        render(cast(ReportPage, SimpleNamespace(**values)))


def test_every_field_of_the_page_says_what_it_is() -> None:
    tree = ast.parse(Path(str(page_module.__file__)).read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {field.name for field in fields(ReportPage)} >= {"title", "counts", "errors"}
    for node in classes:
        body = node.body[1:]
        for name, words in zip(body[::2], body[1::2], strict=True):
            assert isinstance(name, ast.AnnAssign), node.name
            assert isinstance(words, ast.Expr), f"{node.name}.{ast.unparse(name)}"


@pytest.mark.parametrize(
    ("textures", "kind"),
    [
        ([1, 1, 2, 1], "ground-glass"),
        ([3, 3, 3, 4], "part-solid"),
        ([5, 5, 5, 4], "solid"),
        ([], None),
    ],
)
def test_the_kind_comes_from_the_mean_texture(textures: list[int], kind: str | None) -> None:
    assert kind_of([{"texture": texture} for texture in textures]) == kind


def test_a_method_without_matte_does_not_count_as_perfect(store: Store, tmp_path: Path) -> None:
    errors = {name: error for name, error in (ERRORS | TRIVIAL).items() if name != "cf"}
    add_case(store, "P1-a1", **full_facts(synthetic=True, errors=errors))
    add_case(store, "P1-a2", **full_facts(synthetic=True, errors=ERRORS | TRIVIAL))
    table = build(store).errors
    assert table is not None
    column = table.methods.index("cf")
    assert table.methods == METHODS
    assert (table.kinds[0].cells[column].error, table.kinds[0].cells[column].nodules) == (0.05, 1)
    assert "(1 of 2)" in Outline(report(store, tmp_path / "report.html")).text


def build(store: Store, picks: Mapping[str, str] | None = None, **more: Any) -> ReportPage:
    chosen: dict[str, Any] = {"title": "Nodules", "run": RUN, "release": None, "pictures": "none"}
    return build_page(store, Path("report.html"), picks=picks or {}, **{**chosen, **more})
