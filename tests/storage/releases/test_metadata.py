"""The card and metadata files of a release, read by the programs that they are meant for."""

import json
import subprocess
import sys
from dataclasses import replace

import mlcroissant
import pandas as pd
import pytest
import yaml
from datacite import schema45

from storage.recipe import Recipe
from storage.records import Member
from storage.releases.card import dataset_card, split_table
from storage.releases.contents import ReleaseContents
from storage.releases.metadata import SOURCE_DOI, metadata_files
from tests.cases import case_facts, lidc_facts

MEMBERS = (
    Member("P-1", "P", "d" * 64, "lb", "ann", False, "train", False),
    Member("Q-1", "Q", "e" * 64, "cf", "auto", True, "test", False),
)
FROM_LIDC = case_facts(source=lidc_facts([{"texture": 5}, {"texture": 4}]))
FROM_TABLE = case_facts()


def contents(facts=FROM_LIDC, members=MEMBERS, target="opacity"):
    known = {member.nodule_id: facts for member in members}
    decided_at = "2026-02-03T04:05:06+00:00"
    recipe = Recipe().content_key()
    return ReleaseContents("0.1.0", members, (), known, recipe, decided_at, target)


def files(whole):
    own = {"splits.csv": split_table(whole.members), "index.parquet": b"rows"}
    return own | metadata_files(whole, own)


# rdflib, under mlcroissant, warns of its own future
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("facts", [FROM_LIDC, FROM_TABLE])
def test_croissant_is_valid_and_gives_the_records_of_the_table(tmp_path, facts):
    made = files(contents(facts))
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    dataset = mlcroissant.Dataset(str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = [
        {key.split("/")[1]: value.decode() for key, value in r.items()}
        for r in dataset.records("nodules")
    ]
    assert records == pd.read_csv(tmp_path / "splits.csv", dtype=str).to_dict("records")


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
        (case_facts(form="paper"), "paper form"),
        (case_facts(form="improved"), "improved form"),
        (case_facts(form="custom"), "custom parameters"),
        (case_facts(algorithm=7), "algorithm 7 (first edition)"),
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
def test_the_citation_and_datacite_follow_their_schemas(tmp_path, facts):
    made = files(contents(facts))
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
