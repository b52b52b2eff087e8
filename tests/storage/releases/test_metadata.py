"""The card and metadata files of a release, read by the programs that they are meant for."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace

import mlcroissant
import pandas as pd
import pytest
import yaml
from datacite import schema45

from matting.errors import InputError
from storage.recipe import Recipe
from storage.records import About, CandidateScores, Member, TableFacts
from storage.releases.about import LICENSES, read_about
from storage.releases.card import dataset_card
from storage.releases.contents import ReleaseContents
from storage.releases.index import describe_column, index_table, split_table
from storage.releases.metadata import SOURCE_DOI, metadata_files
from storage.releases.statistics import NoduleStatistics
from tests.cases import case_facts, lidc_facts

MEMBERS = (
    Member("P-1", "P", "d" * 64, "lb", "ann", False, "train", False),
    Member("Q-1", "Q", "e" * 64, "cf", "auto", True, "test", False),
)
FIGURES = {"cross_entropy": 0.1, "mass_outside": 0.2}
SCORES = CandidateScores({"cf": FIGURES, "lb": FIGURES, "cf+": FIGURES}, {}, ())
FROM_LIDC = case_facts(
    source=lidc_facts([{"texture": 5, "malignancy": 3}, {"texture": 4, "malignancy": None}]),
    scores=SCORES,
)
FROM_TABLE = case_facts(source=TableFacts({"site": "north"}), scores=SCORES)
STATED = read_about(
    title="Soft nodules",
    authors="Ann Lee; Bo Chen",
    license_="cc-by-4.0",
    contact="ann@example.org",
)
NOTHING = read_about()


def contents(facts=FROM_LIDC, members=MEMBERS, target="opacity", about=NOTHING):
    known = {member.nodule_id: facts for member in members}
    decided_at = "2026-02-03T04:05:06+00:00"
    recipe = Recipe().content_key()
    return ReleaseContents("0.1.0", members, (), known, recipe, decided_at, target, about)


def statistics(member):
    numbers = [4.0] * len(fields(NoduleStatistics)[2:])
    return NoduleStatistics(member.nodule_id, member.split, *numbers)


def files(whole):
    measured = [statistics(member) for member in whole.members]
    index = index_table(whole.members, whole.facts, measured)
    own = {"splits.csv": split_table(whole.members), "index.parquet": index}
    return own | metadata_files(whole, own)


# rdflib, under mlcroissant, warns of its own future
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("about", [NOTHING, STATED])
@pytest.mark.parametrize("facts", [FROM_LIDC, FROM_TABLE])
def test_croissant_is_valid_without_a_warning_and_gives_the_records_of_the_table(
    tmp_path, monkeypatch, caplog, facts, about
):
    made = files(contents(facts, about=about))
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir("/")
    dataset = mlcroissant.Dataset(str(tmp_path / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert (set(issues.errors), set(issues.warnings), caplog.text) == (set(), set(), "")
    records = pd.DataFrame(
        {
            key.split("/")[1]: value.decode() if isinstance(value, bytes) else value
            for key, value in record.items()
        }
        for record in dataset.records("nodules")
    )
    index = pd.read_parquet(tmp_path / "index.parquet")
    pd.testing.assert_frame_equal(records.astype(index.dtypes), index)


def test_the_citation_and_datacite_name_the_scans_only_where_they_are_lidcs():
    for facts, lidc in ((FROM_LIDC, True), (FROM_TABLE, False)):
        made = files(contents(facts))
        citation = yaml.safe_load(made["CITATION.cff"])
        assert citation.keys() >= {"cff-version", "message", "title", "authors"}
        datacite = json.loads(made["datacite.json"])
        assert datacite.keys() >= {"creators", "titles", "publisher", "publicationYear", "types"}
        assert datacite["publicationYear"] == "2026"
        for text in (made["CITATION.cff"].decode(), made["datacite.json"].decode()):
            assert (SOURCE_DOI in text, "licenses/by/3.0" in text) == (lidc, lidc)
        page = dataset_card(contents(facts)).decode()
        assert (
            "Armato" in page,
            "Do not use it for diagnosis" in page,
            "Known limits" in page,
        ) == (
            lidc,
            True,
            True,
        )


def test_synthetic_data_are_named_so_in_every_file_that_describes_them():
    whole = contents(members=(replace(MEMBERS[0], synthetic=True), MEMBERS[1]))
    made = files(whole)
    assert b"**Synthetic data.** 1 of 2 scans are simulated" in dataset_card(whole)
    for name in ("croissant.json", "CITATION.cff", "datacite.json"):
        assert b"synthetic data" in made[name].replace(b"\n ", b"")
        assert b"synthetic" not in files(contents())[name]


def test_the_card_counts_what_is_there():
    page = dataset_card(contents()).decode()
    for line in (
        "2 nodules of 2 patients",
        "LIDC-IDRI 2; simulated scans: 0",
        "solid 2",
        "test 1, train 1",
        "by method: cf 1, lb 1; by family:\n  cf 1, lb 1; 1 picked automatically, 1 by people",
    ):
        assert line in page
    assert "unrated 2" in dataset_card(contents(FROM_TABLE)).decode()


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (case_facts(form="paper", scores=SCORES), "paper form"),
        (case_facts(form="improved", scores=SCORES), "improved form"),
        (case_facts(form="custom", scores=SCORES), "custom parameters"),
        (case_facts(algorithm=7, scores=SCORES), "algorithm 7 (first edition)"),
    ],
)
def test_the_card_and_the_metadata_name_the_form(facts, name):
    whole = contents(facts)
    assert f"Parameters of the matting methods: {name} 2." in dataset_card(whole).decode()
    assert name in json.loads(files(whole)["croissant.json"])["description"]


def test_the_card_says_which_question_is_answered_and_what_answers_another():
    mixed = (replace(MEMBERS[0], method="cf+"), MEMBERS[1])
    page = dataset_card(contents(members=mixed, target="density")).decode()
    assert "Question that the release answers: density, the share of the voxel" in page
    assert "1 mattes are of + forms, which answer it; 1 are of plain forms,\n  chosen by" in page
    assert "they answer the other question, opacity." in page
    assert "by family:\n  cf 2;" in page
    page = dataset_card(contents(target="opacity")).decode()
    assert "2 mattes are of plain forms, which answer it; 0 are of + forms." in page
    assert "other question" not in page
    assert "radiodensity target" in contents(target="density").summary
    assert "radiodensity target" not in contents(target="opacity").summary


@pytest.mark.parametrize("facts", [FROM_LIDC, FROM_TABLE])
@pytest.mark.parametrize("about", [NOTHING, STATED, read_about(license_="our own terms")])
def test_the_citation_and_datacite_follow_their_schemas(tmp_path, facts, about):
    made = files(contents(facts, about=about))
    schema45.validator.validate(json.loads(made["datacite.json"]))
    (tmp_path / "CITATION.cff").write_bytes(made["CITATION.cff"])
    check = (
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.citation-file-format",
    )
    done = subprocess.run(
        [*check, "--default-filetype", "yaml", tmp_path / "CITATION.cff"], capture_output=True
    )
    assert done.returncode == 0, done.stdout


def test_what_the_publisher_states_is_in_every_file_that_describes_the_release():
    whole = contents(FROM_TABLE, about=STATED)
    made = files(whole) | {"README.md": dataset_card(whole)}
    for name in ("README.md", "croissant.json", "CITATION.cff", "datacite.json"):
        text = made[name].decode()
        for stated in ("Soft nodules, version 0.1.0", "Ann Lee", "Bo Chen"):
            assert stated in text, name
        assert LICENSES["CC-BY-4.0"] in text, name
        assert ("ann@example.org" in text) == (name != "croissant.json")
        assert "Curators of this" not in text


@pytest.mark.parametrize(
    ("facts", "license_", "front"),
    [
        (FROM_LIDC, "", {"license": "cc-by-3.0"}),
        (FROM_TABLE, "", {"license": "unknown"}),
        (FROM_TABLE, "CC0-1.0", {"license": "cc0-1.0"}),
        (FROM_TABLE, "our own: terms", {"license": "other", "license_name": "our own: terms"}),
    ],
)
def test_the_front_matter_is_what_hubs_of_data_sets_read(facts, license_, front):
    page = dataset_card(contents(facts, about=read_about(license_=license_))).decode()
    _, block, text = page.split("---\n", 2)
    assert yaml.safe_load(block).items() >= front.items()
    assert yaml.safe_load(block)["size_categories"] == ["n<1K"]
    assert text.startswith("\n# Halosign 0.1.0")
    assert ("keep their license, which is not stated" in text) == (front["license"] == "unknown")


@pytest.mark.parametrize("facts", [FROM_LIDC, FROM_TABLE])
def test_the_card_describes_every_column_of_the_index(tmp_path, facts):
    whole = contents(facts)
    made = files(whole)
    (tmp_path / "index.parquet").write_bytes(made["index.parquet"])
    index = pd.read_parquet(tmp_path / "index.parquet")
    page = dataset_card(whole).decode()
    for column in index:
        assert f"| `{column}` | {describe_column(column)} |" in page
    (first, _) = index.to_dict("records")
    if facts is FROM_LIDC:
        assert (first["texture"], first["malignancy"]) == (4.5, 3.0)
        assert first["slice_thickness_mm"] == 1.0
    else:
        assert first["source_site"] == "north"
        assert index[["texture", "malignancy", "slice_thickness_mm"]].isna().all(axis=None)
    assert first["diameter_mm"] == 1.97


@pytest.mark.parametrize("text", ["two\nlines", "a\x00", "x" * 400])
@pytest.mark.parametrize("field", ["title", "authors", "license_", "contact"])
def test_what_is_no_line_of_text_is_refused(field, text):
    with pytest.raises(InputError, match="of a release is no line of text"):
        read_about(**{field: text})


def test_what_is_left_out_is_as_in_the_release_before():
    later = read_about(contact="bo@example.org").over(STATED)
    assert later == About(
        title="Soft nodules",
        authors=("Ann Lee", "Bo Chen"),
        license="CC-BY-4.0",
        contact="bo@example.org",
    )


@pytest.mark.parametrize("facts", [FROM_LIDC, FROM_TABLE])
def test_the_data_sets_library_gives_one_row_per_nodule_of_a_folder(tmp_path, facts):
    whole = contents(facts)
    folder = tmp_path / "copy of a release"
    folder.mkdir()
    for name, data in (files(whole) | {"README.md": dataset_card(whole)}).items():
        (folder / name).write_bytes(data)
    code = (
        "import sys, datasets; "
        "rows = datasets.load_dataset(sys.argv[1])['nodules']; "
        "print([(row['nodule_id'], row['split'], row['diameter_mm']) for row in rows])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[('P-1', 'train', 1.97), ('Q-1', 'test', 1.97)]\n"
