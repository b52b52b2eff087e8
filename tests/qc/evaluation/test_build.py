"""The page of the paper's experiments: all that is measured is on it and in the CSVs, what is not
is said."""

import csv
import hashlib
import re
from dataclasses import replace
from functools import cache
from io import BytesIO, StringIO
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from qc.evaluation import videos
from qc.evaluation.build import FILES, NAMES, REASONS, render, write_evaluation
from qc.evaluation.gather import gather_page
from qc.evaluation.page import DataFacts, EvaluationPage, Picture, Setting, StudySection, Video
from qc.evaluation.paper import TABLE_1, TABLE_2, TABLE_3, TABLE_UNITS
from qc.evaluation.pictures import (
    NodulePrediction,
    choose_nodules,
    draw_predicted,
    draw_release,
    find_study,
)
from storage.cases.case import read_case, read_case_files
from storage.cases.outcomes import find_outcome
from storage.errors import NotFoundError
from storage.recipe import Recipe
from storage.records import Cost, Member, Verdict
from storage.releases.release import Draft, Release, publish_release
from storage.releases.statistics import nodule_statistics, statistics_files
from storage.results.csv_rows import from_csv
from storage.results.diagnoses import DiagnosisDifference, DiagnosisRow
from storage.results.experiments import Averages, NetworkDifference, write_facts, write_table
from storage.results.left_out import LeftOutRow
from storage.reviews.studies import create_study, plan_study
from storage.reviews.verdicts import record_verdict
from tests.cases import experiment_facts
from tests.qc.report.test_build import HOSTILE, PLAIN_LINKS, Outline
from tests.reviewable import reviewable_store

LIMIT_BYTES = 20_000_000
FIGURES = ("sad", "mse", "grad", "conn")


def rows_of(
    mattes: tuple[str, ...], *, scale: float = 1.0, training: str = "", **place: str
) -> tuple[Averages, ...]:
    at = {"truth": "released", "region": "whole", **place}
    return tuple(
        Averages(
            matte=matte,
            **at,
            partitions="0 1 2 3",
            nodules=f"{100 + n} 98 101 {110 - n}",
            sad=scale * (801.25 + 37.5 * n),
            sad_deviation=41.5,
            mse=scale * (0.000171 + 0.00002 * n),
            mse_deviation=0.00002,
            grad=scale * (61.7 + n),
            grad_deviation=None if n == 0 else 3.25,
            conn=scale * (7654.0 + 11 * n),
            conn_deviation=55.5,
            training=training,
        )
        for n, matte in enumerate(mattes)
    )


def picture(name: str, colour: tuple[int, int, int] = (9, 9, 9)) -> Picture:
    data = BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, "PNG")
    return Picture(f"pictures/{name}.png", data.getvalue(), f"alt of {name}", f"caption of {name}")


def video(name: str, *, mp4: bytes | None = None) -> Video:
    frames = [Image.new("P", (8, 8), n) for n in range(3)]
    data = BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    return Video(
        f"videos/{name}.gif",
        data.getvalue(),
        picture(name).data,
        mp4,
        f"alt of {name}",
        f"caption of {name}",
    )


DATA = DataFacts(
    "1.2.3",
    "f" * 64,
    "paper",
    526,
    346,
    0,
    "paper form",
    {"test": 105, "train": 370, "validation": 51},
)
BARE = EvaluationPage("Experiments", DATA, False, (), (("commit", "c0ffee"),))
NETWORKS = ("3dmm", "3dmm (untold)", "3dmm-mg", "3dmm-mg abc123")
WHOLE = replace(
    BARE,
    reduced=True,
    settings=(Setting("epochs", "2", "300"), Setting("threads", "1", "")),
    table_1=(
        *rows_of(("cf", "cf+", "knn+", "lb+", "if+", "readers' mean", "HU linear", "3dmm")),
        *rows_of(("cf", "cf+"), scale=0.5, region="unknown"),
        *rows_of(("cf", "cf+"), scale=0.25, truth="known"),
    ),
    table_2=rows_of(NETWORKS, scale=2.0, training="2 epochs"),
    network_differences=tuple(
        NetworkDifference(
            *("3dmm-mg", second, "released", region, metric, "0 1", 201, 130),
            *(first_mean, 2.0, first_mean / 2 - 1, *interval),
        )
        for second, first_mean, interval in (
            ("readers' mean", 1.5, (-0.35, -0.15)),
            ("HU linear", 2.1, (None, None)),
        )
        for region in ("near", "whole")
        for metric in ("sad", "mse", "grad")
    ),
    table_3=(
        Cost(
            "3dmm",
            "told",
            2_940_327,
            342_450_000_000,
            12.345,
            5678.0,
            "16x32x32",
            0.0432,
            4,
            "a CPU",
            "2.13.0",
        ),
        Cost(
            "3dmm",
            "untold",
            2_111_111,
            222_450_000_000,
            9.875,
            4321.0,
            "16x32x32",
            0.0321,
            4,
            "a CPU",
            "2.13.0",
        ),
    ),
    diagnosis=(
        DiagnosisRow("densenet121", "Image", 1, 0.7111, 0.61, 0.81, 398, 201),
        DiagnosisRow("densenet121", "Image", None, 0.7234, 0.6251, 0.8151, 398, 201),
        DiagnosisRow("none", "volume", None, 0.8567, 0.8011, 0.9022, 398, 201),
    ),
    diagnosis_differences=(
        DiagnosisDifference("boosting", "optimised", "masks", 0.0331, 0.0192, 0.0488, 398),
        DiagnosisDifference("boosting", "plain", "masks", 0.0051, -0.0102, 0.0204, 398),
    ),
    diagnosis_figure=picture("figure-6"),
    left_out=(
        LeftOutRow("all", "improved cf", 526, 347, 0.08123, 0.2671, 0.0312, -0.0571, -0.07, -0.043),
        LeftOutRow("all", "readers' mean", 526, 347, 0.09821, 0.4012, 0.0613, 0.105, 0.09, 0.121),
        LeftOutRow("solid", "paper cf", 400, 300, 0.08765, 0.2891, 0.0423, -0.012, -0.03, 0.004),
    ),
    left_out_figure=picture("left-out"),
    readers=(picture("figure-1-a"), picture("figure-1-b")),
    methods=picture("figure-7"),
    network=picture("figure-8"),
    videos=(video("slices"), video("turn", mp4=b"an mp4")),
    study=StudySection("pilot", 100, 2, b"rater,option\nann,matte\n", picture("figure-3"), 0),
    attachments={"nodules/methods.csv": b"nodule,sad\n"},
)


@cache
def whole_files() -> dict[str, bytes]:
    return render(WHOLE)


def text_of(page: EvaluationPage) -> str:
    files = whole_files() if page is WHOLE else render(page)
    return " ".join(Outline(files["report.html"].decode()).text.split())


def test_differences_and_left_out_readers_are_on_the_page_with_their_lines():
    text = text_of(WHOLE)
    assert "boosting optimised \N{MINUS SIGN} masks +0.033 +0.019 to +0.049 2" in text
    assert "boosting plain \N{MINUS SIGN} masks +0.005 -0.010 to +0.020 3" in text
    assert "improved cf 0.0812 -5.7 -7.0 to -4.3 0.267 0.031 2" in text
    assert "paper cf 0.0877 -1.2 -3.0 to +0.4 0.289 0.042 4" in text
    first = (
        "3dmm-mg \N{MINUS SIGN} readers' mean -25.0 -35.0 to -15.0 -25.0 -35.0 to -15.0 201 130 2"
    )
    assert f"the whole patch {first} 5, 6" in text
    assert f"the readers' union and 5 mm around it {first} 2, 3" in text
    dash = "\N{EM DASH}"
    assert f"HU linear +5.0 {dash} +5.0 {dash} 201 130 2 11, 12" in text
    html = whole_files()["report.html"].decode()
    assert "<b>-25.0</b>" in html
    assert "<b>+5.0</b>" not in html
    assert "<b>+0.033</b>" in html
    assert "<b>+0.005</b>" not in html
    assert "<summary>solid: 400 nodules</summary>" in html


def as_printed(value: float, digits: int) -> str:
    return f"{value:,.{digits if abs(value) < 1000 else 0}f}"


def test_every_row_of_every_table_is_on_the_page_with_the_csvs_numbers():
    files = whole_files()
    text = text_of(WHOLE)
    for name, rows in (("table_1", WHOLE.table_1), ("table_2", WHOLE.table_2)):
        stored = from_csv(Averages, files[FILES[name]], "here")
        assert stored == list(rows)
        for row in stored:
            cells = [row.matte, row.training, ", ".join(row.nodules.split())]
            for figure, digits in zip(FIGURES, (2, 3, 2, 2), strict=True):
                mean, deviation = getattr(row, figure), getattr(row, f"{figure}_deviation")
                for value, words in ((mean, "{}"), (deviation, "± {}")):
                    if value is not None:
                        cells.append(words.format(as_printed(value / TABLE_UNITS[figure], digits)))
            for cell in cells:
                assert cell in text
    costs = from_csv(Cost, files["table-3.csv"], "here")
    assert costs == list(WHOLE.table_3)
    for shown in (
        "2,940,327",
        "342.45",
        "12.3",
        "5,678",
        "0.0432",
        "16x32x32",
        "2,111,111",
        "222.45",
        "9.88",
        "4,321",
    ):
        assert shown in text
    for shown in ("0.723", "0.625 to 0.815", "0.857", "0.801 to 0.902", "398", "201"):
        assert shown in text
    assert "0.711" not in text
    assert len(list(csv.DictReader(StringIO(files["figure-6.csv"].decode())))) == 3


def test_a_line_of_the_page_names_the_csvs_line():
    files = whole_files()
    html = files["report.html"].decode()
    lines = files["table-1.csv"].decode().splitlines()
    first = html[html.index('id="table-1"') :]
    rows = re.findall(
        r'class="id">(?:<i>)?([^<]+).*?<a href="table-1.csv">(\d+)</a>', first, re.DOTALL
    )
    assert len(rows) == len(WHOLE.table_1)
    for matte, line in rows:
        assert lines[int(line) - 1].startswith(matte.replace("&#39;", "'") + ",")
    for name in ("table-1.csv", "table-2.csv", "table-3.csv", "figure-6.csv"):
        linked = [int(n) for n in re.findall(rf'<a href="{name}">(\d+)</a>', html)]
        expected = {"table-3.csv": [2, 3], "figure-6.csv": [3, 4]}.get(name)
        assert linked == (
            expected or list(range(2, 2 + len(files[name].decode().splitlines()) - 1))
        )


def test_the_papers_numbers_stand_beside_ours_where_it_prints_them():
    text = text_of(WHOLE)
    for method in ("cf+", "knn+", "lb+", "if+", "3dmm"):
        for figure in FIGURES:
            mean, deviation = getattr(TABLE_1[method], figure)
            assert f"{mean:.2f} ± {deviation:.2f}" in text
    for name in (("3dmm", "untold"), ("3dmm-mg", "told")):
        assert "{:.2f} ± {:.2f}".format(*TABLE_2[name].sad) in text
    for name in (("3dmm-mg", "untold"), ("3dmm-m", "told")):
        assert "{:.2f} ± {:.2f}".format(*TABLE_2[name].sad) not in text
    assert f"{TABLE_3['3dmm'][1] / 1e9:.2f}" in text
    # One against the released matte over all that was measured, one of the same kind for Table 2;
    # no other
    html = whole_files()["report.html"].decode()
    assert html.count('<th scope="col" class="n">paper</th>') == 4 + 4 + 2


def test_the_smallest_is_marked_and_who_loses_to_a_trivial_matte_too():
    html = whole_files()["report.html"].decode()
    first = html[html.index('id="table-1"') :]
    first = first[: first.index("<details>")]
    rows = {
        re.search(r'class="id">(?:<i>)?([^<]+)', row)[1]: row for row in first.split("<tr>")[3:]
    }
    assert rows["cf"].count(" best") == 4
    assert sum(row.count(" best") for row in rows.values()) == 4
    assert rows["3dmm"].count(" behind") == 4
    assert rows["HU linear"].count(" behind") == rows["if+"].count(" behind") == 0
    assert "<i>readers&#39; mean</i>" in rows["readers&#39; mean"]


@pytest.mark.parametrize("part", NAMES)
def test_what_is_missing_is_said_at_its_place_with_a_reason(part):
    text = text_of(BARE)
    assert REASONS[part] in text
    assert f'id="missing-{part}"' in render(BARE)["report.html"].decode()
    given = text_of(replace(BARE, missing={part: "because of the weather"}))
    assert "because of the weather" in given
    # Some parts share a general reason: exactly this part's own must be gone.
    assert given.count(REASONS[part]) == text_of(BARE).count(REASONS[part]) - 1
    assert 'class="lacking"' not in whole_files()["report.html"].decode()


def test_a_page_without_anything_has_no_empty_files():
    assert list(render(BARE)) == ["report.html"]


def test_real_and_simulated_data_are_told_apart_at_the_top():
    real, simulated = text_of(WHOLE), text_of(replace(BARE, data=replace(DATA, synthetic=500)))
    assert "Real CT" in real
    assert "SYNTHETIC" not in real
    assert "SYNTHETIC DATA" in simulated
    assert "500 of 526 nodules" in simulated
    assert "Real CT" not in simulated
    assert "REDUCED SETTING" in real
    assert "REDUCED SETTING" not in text_of(BARE)
    for words in (
        "epochs 2 300",
        "threads 1 not given",
        "c0ffee",
        "1.2.3",
        "f" * 64,
        "346",
        "train 370",
    ):
        assert words in real


def test_the_page_loads_nothing_and_every_file_that_it_links_lies_beside():
    files = whole_files()
    html = files["report.html"].decode()
    outline = Outline(html)
    assert all(
        link.startswith("data:image/")
        for link in (*outline.values("src"), *outline.values("srcset"))
    )
    links = {link for link in outline.values("href") if not link.startswith(("#", *PLAIN_LINKS))}
    assert links == files.keys() - {"report.html"}
    assert {"videos/turn.mp4", "nodules/methods.csv", "pictures/figure-9.png"} <= links
    assert "videos/slices.mp4" not in links
    assert {link[1:] for link in outline.values("href") if link.startswith("#")} <= set(
        outline.values("id")
    )
    assert {tag for tag, _ in outline.tags}.isdisjoint(
        {"script", "link", "iframe", "object", "base", "form"}
    )
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    for name in links:
        assert hashlib.sha256(files[name]).hexdigest() in html


def test_the_page_can_be_heard_and_walked():
    outline = Outline(whole_files()["report.html"].decode())
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(images) == 3 + 1 + 1 + 1 + 1 + 1 + 2 * 2
    assert all(image["alt"] for image in images)
    names = [tag for tag, _ in outline.tags]
    assert names.count("caption") == names.count("table")
    levels = [int(tag[1]) for tag in names if tag in {"h1", "h2", "h3", "h4"}]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    anchors = outline.values("id")
    assert len(anchors) == len(set(anchors))
    assert all("scope" in attributes for tag, attributes in outline.tags if tag == "th")


def test_what_others_wrote_is_escaped():
    page = replace(
        WHOLE,
        title=HOSTILE,
        data=replace(DATA, recipe=HOSTILE),
        settings=(Setting(HOSTILE, HOSTILE, HOSTILE),),
        provenance=((HOSTILE, HOSTILE),),
        table_2=rows_of((HOSTILE,), training=HOSTILE),
        network=None,
        missing={"network": HOSTILE},
    )
    html = render(page)["report.html"].decode()
    assert "<script" not in html
    assert "<img src=x" not in html
    assert HOSTILE in Outline(html).text


def test_the_files_are_written_whole_and_the_same_each_time(tmp_path):
    write_evaluation(WHOLE, tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*.*")
    }
    assert found == whole_files()


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Any:
    """A release of one nodule with a study that was answered and one that was not."""
    store = reviewable_store(tmp_path_factory.mktemp("store") / "store", 1)
    outcome = find_outcome(store, "P-1-a1")
    member = Member("P-1-a1", "P-1", outcome.digest, "lb", "ann", False, "test", True)
    case = read_case(store, "P-1-a1", outcome.digest)
    files = {"README.md": b"# card\n", **statistics_files([nodule_statistics(case, "lb", "test")])}
    draft = Draft(
        (member,),
        (),
        read_case_files(store, "P-1-a1", outcome.digest),
        files,
        Recipe().model_dump(mode="json"),
    )
    publish_release(store, "0.1.0", draft, publisher="a test")
    for name in ("pilot", "unanswered"):
        study = plan_study(
            store, name, nodules=1, raters=2, seed=3, recipe=Recipe(), release="0.1.0"
        )
        create_study(store, study)
    item = study.items[0]
    record_verdict(
        store, Verdict(item.nodule_id, item.digest, "choose", "matte", "ann", False, study="pilot")
    )
    return store


def test_a_page_is_gathered_from_what_the_store_holds(released):
    write_table(released, "0.1.0", "tiny", 1, rows_of(("cf", "3dmm")))
    write_facts(released, "0.1.0", "tiny", experiment_facts())
    page = gather_page(Release.open(released, "0.1.0"), "tiny")
    assert page.table_1 == rows_of(("cf", "3dmm"))
    assert (page.table_2, page.table_3, page.readers, page.methods) == ((), (), (), None)
    assert (page.data.synthetic, page.reduced, page.settings) == (
        1,
        True,
        (Setting("epochs", "1", "300"),),
    )
    assert page.study is not None
    assert (page.study.name, page.study.raters, page.study.synthetic) == ("pilot", 1, 1)
    text = text_of(page)
    for words in (
        "SYNTHETIC DATA",
        "1 rater chose",
        "1 of them have synthetic CT",
        "unknown",
        "1.5",
    ):
        assert words in text
    assert b"matte" in render(page)["figure-3.csv"]
    with pytest.raises(NotFoundError):
        gather_page(Release.open(released, "0.1.0"), "another")


def test_a_study_of_another_release_is_not_shown(released):
    assert find_study(released, "0.2.0") is None


def test_pictures_of_a_release_are_drawn_of_chosen_nodules(released, monkeypatch):
    monkeypatch.setattr(videos, "TURN_FRAMES", 3)
    monkeypatch.setattr(videos, "MAX_SLICE_FRAMES", 3)
    release = Release.open(released, "0.1.0")
    assert [choice.nodule_id for choice in choose_nodules(release)] == ["P-1-a1"]
    drawn = draw_release(release)
    case = read_case(released, "P-1-a1", release.members["P-1-a1"].digest)
    predicted = [NodulePrediction("P-1-a1", case.alpha("cf"), None, None)]
    network = draw_predicted(release, "3dmm 123", predicted)
    assert draw_predicted(release, "3dmm 123", []) is None
    assert network is not None
    assert "3dmm 123" in network.caption
    write_facts(released, "0.1.0", "drawn", experiment_facts())
    files = render(
        gather_page(Release.open(released, "0.1.0"), "drawn", drawn=drawn, network=network)
    )
    assert {
        "pictures/figure-1-P-1-a1.png",
        "videos/turn-P-1-a1.gif",
        "videos/slices-P-1-a1.gif",
    } <= files.keys()
    assert sum(map(len, files.values())) < LIMIT_BYTES / 4
    assert all("Synthetic CT" in one.alt for one in (*drawn.readers, drawn.methods, network))


def test_a_browser_asks_for_nothing_else_and_finds_no_fault(look_at_file, tmp_path):
    write_evaluation(replace(WHOLE, data=replace(DATA, synthetic=3)), tmp_path)
    look_at_file(tmp_path / "report.html")
