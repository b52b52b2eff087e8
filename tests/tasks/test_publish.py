import io
import json
from dataclasses import replace

import pandas as pd
import pytest
import zarr

from flows.curate import curate_nodule
from matting.errors import InputError
from matting.targets import TARGETS, target_of
from storage.cases.case import read_case, write_case
from storage.cases.outcomes import find_outcome, read_outcomes, write_outcome
from storage.errors import CorruptionError
from storage.maintenance.quarantine import repair
from storage.maintenance.verify_records import verify_records
from storage.recipe import Recipe, ReviewSettings, SourceSettings
from storage.records import TableFacts, Verdict
from storage.releases.diff import diff_releases
from storage.releases.release import Release, publish_release
from storage.releases.verify import verify_release
from storage.reviews.verdicts import record_verdict
from tasks.auto_select import pick_automatically
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release
from tests.cases import new_case
from tests.decided import latest_verdict


def choose(store, nodule_id, method="lb", digest=None, verdict="choose"):
    digest = digest or find_outcome(store, nodule_id).digest
    return record_verdict(
        store, Verdict(nodule_id, digest, verdict, method, "ann", automatic=False)
    )


@pytest.mark.parametrize("target", TARGETS)
def test_the_automatic_pick_is_the_first_of_those_that_answer(store, curated, target):
    picks = pick_automatically(store, target)
    assert [decision.nodule_id for decision in picks.added] == ["n1", "n2"]
    assert picks.unpicked == ()
    for decision in picks.added:
        scores = read_case(store, decision.nodule_id, decision.digest).facts.scores
        assert (decision.method, decision.automatic, decision.reviewer) == (
            scores.ranking_for(target)[0],
            True,
            "auto",
        )
        assert target_of(decision.method) == target
    assert pick_automatically(store, target).added == ()


def asking(recipe, target):
    return recipe.model_copy(update={"review": ReviewSettings(target=target)})


def test_another_question_gives_other_picks_of_the_same_cases(store, curated):
    before = pick_automatically(store, "opacity").added
    with pytest.raises(
        InputError,
        match=r"automatic picks answer another question than density: got n1 \(.*review auto",
    ):
        draft_release(store, "0.1.0", curated.recipe)
    old = draft_release(store, "0.1.0", asking(curated.recipe, "opacity"))
    publish_release(store, "0.1.0", old, publisher="ann")
    after = pick_automatically(store, "density").added
    assert [one.digest for one in after] == [one.digest for one in before]
    assert [one.method for one in after] == [f"{one.method}+" for one in before]
    new = draft_release(store, "0.2.0", curated.recipe)
    publish_release(store, "0.2.0", new, publisher="ann")
    first, second = (Release.open(store, version).manifest for version in ("0.1.0", "0.2.0"))
    assert (first.target, second.target) == ("opacity", "density")
    assert second.form_name == "paper form"
    assert diff_releases(store, first, second).retargeted == ("n1", "n2")
    assert b"Target: opacity -> density; the picks of 2 nodules" in new.own_files["CHANGES.md"]


def test_a_nodule_without_an_answer_is_left_to_reviewers(store, curated):
    case = read_case(store, "n1", find_outcome(store, "n1").digest)
    facts = {name: one for name, one in case.facts.scores.methods.items() if "+" not in name}
    scores = replace(case.facts.scores, methods=facts)
    write_case(store, new_case("e" * 64, nodule="n1", scores=scores))
    write_outcome(store, replace(find_outcome(store, "n1"), digest="e" * 64))
    picks = pick_automatically(store, "density")
    assert picks.unpicked == ("n1",)
    assert [one.nodule_id for one in picks.added] == ["n2"]
    with pytest.raises(InputError, match="nodules have no verdict: got n1"):
        draft_release(store, "0.1.0", curated.recipe)
    assert [one.nodule_id for one in pick_automatically(store, "opacity").added] == ["n1", "n2"]


def test_a_reviewer_may_choose_what_answers_the_other_question(store, curated):
    choose(store, "n1", "knn")
    pick_automatically(store)
    draft = draft_release(store, "0.1.0", curated.recipe)
    card = draft.own_files["README.md"].decode()
    assert "1 mattes are of + forms, which answer it; 1 are of plain forms," in card
    manifest = publish_release(store, "0.1.0", draft, publisher="ann").manifest
    assert {member.form for member in manifest.members.values()} == {"paper"}


def test_a_person_is_never_overruled(store, curated):
    mine = choose(store, "n1", "knn+")
    pick_automatically(store)
    assert latest_verdict(store, "n1") == mine


def test_a_draft_holds_what_was_chosen(store, curated):
    choose(store, "n1", "knn")
    choose(store, "n2", None, verdict="discard")
    draft = draft_release(store, "0.1.0", curated.recipe)
    assert [(m.nodule_id, m.method, m.reviewer, m.automatic) for m in draft.members] == [
        ("n1", "knn", "ann", False)
    ]
    assert draft.discarded == ("n2",)
    assert all(key.startswith("cases/n1/") for key in draft.case_files)
    index = pd.read_parquet(io.BytesIO(draft.own_files["index.parquet"]))
    assert index.loc[0, ["nodule_id", "method", "spacing_mm"]].tolist() == ["n1", "knn", 0.5]
    assert b"synthetic" not in draft.own_files["README.md"].lower()


def test_what_reviewers_dispute_is_released_once_it_is_settled(store, curated):
    recipe = curated.recipe.model_copy(
        update={"review": ReviewSettings(rule="adjudicator", reviewers=2, adjudicator="judge")}
    )
    pick_automatically(store)
    for reviewer, method in (("ann", "knn"), ("bob", "lb")):
        digest = find_outcome(store, "n1").digest
        record_verdict(store, Verdict("n1", digest, "choose", method, reviewer, automatic=False))
    assert pick_automatically(store).added == ()
    with pytest.raises(
        InputError, match=r"reviewers disagree: got n1.*rule of the recipe is `adjudicator`"
    ):
        draft_release(store, "0.1.0", recipe)
    record_verdict(store, Verdict("n1", digest, "choose", "cf", "judge", automatic=False))
    chosen = {
        member.nodule_id: (member.method, member.reviewer)
        for member in draft_release(store, "0.1.0", recipe).members
    }
    assert chosen["n1"] == ("cf", "judge")


def test_a_draft_tells_how_far_it_is(store, curated):
    pick_automatically(store)
    steps, files = [], []
    draft = draft_release(store, "0.1.0", curated.recipe, on_step=lambda *one: steps.append(one))
    number = len(draft.case_files)
    verified = [("files verified", n, number) for n in range(number)]
    measured = [("nodules measured", n, len(draft.members)) for n in range(len(draft.members))]
    assert steps == verified + measured
    publish_release(store, "0.1.0", draft, publisher="test")
    verify_release(store, "0.1.0", lambda *step: files.append(step))
    total = number + len(draft.own_files)
    assert files == [(n, total) for n in range(total)]


def test_two_drafts_of_the_same_store_are_the_same(store, curated):
    pick_automatically(store)
    assert draft_release(store, "0.1.0", curated.recipe) == draft_release(
        store, "0.1.0", curated.recipe
    )


def test_the_cards_example_reads_a_release_with_nothing_of_ours(store, curated, monkeypatch):
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", curated.recipe), publisher="ann")
    card = store.get("releases/0.1.0/README.md").decode()
    code = card.split("```python\n")[1].split("```")[0]
    names = {}
    assert store.url not in card
    monkeypatch.chdir(f"{store.url}/releases/0.1.0")
    exec(compile(code, "card", "exec"), names)
    assert names["alpha"].shape == names["image_hu"].shape
    assert 0 < names["alpha"].max() <= 1
    assert isinstance(names["case"], zarr.Group)


def older(store, nodule="n1", **facts):
    """Put a case into the store as an earlier version could have written it."""
    digest = "e" * 64
    case = read_case(store, nodule, find_outcome(store, nodule).digest)
    same = {"recipe": case.facts.recipe, "scores": case.facts.scores}
    write_case(store, new_case(digest, nodule=nodule, **same, **facts))
    write_outcome(store, replace(find_outcome(store, nodule), digest=digest))
    return digest


def test_a_patient_who_may_be_identified_is_not_published(store, curated):
    choose(store, "n1", digest=older(store, patient="DOE^JANE 1961-02-03"))
    choose(store, "n2")
    assert [outcome.nodule_id for outcome in read_outcomes(store)] == ["n1", "n2"], "listed still"
    with pytest.raises(InputError, match="may identify them: got n1, expected none") as refused:
        draft_release(store, "0.1.0", curated.recipe)
    assert "DOE" not in str(refused.value)


def test_columns_are_published_only_if_the_recipe_keeps_them(store, curated):
    columns = TableFacts({"physician": "Dr. Oberhuber", "texture": "solid"})
    choose(store, "n1", digest=older(store, source=columns))
    choose(store, "n2")
    with pytest.raises(InputError, match=r"does not keep: got physician; texture.*`source\.keep`"):
        draft_release(store, "0.1.0", curated.recipe)
    kept = SourceSettings(keep=("physician", "texture"))
    draft = draft_release(store, "0.1.0", curated.recipe.model_copy(update={"source": kept}))
    assert len(draft.members) == 2


def test_an_empty_store_is_refused(store):
    with pytest.raises(InputError, match=r"no finished nodule.*halosign curate"):
        draft_release(store, "0.1.0", Recipe())


def test_undecided_nodules_are_refused(store, curated):
    choose(store, "n1")
    with pytest.raises(InputError, match=r"nodules have no verdict: got n2, expected none"):
        draft_release(store, "0.1.0", curated.recipe)


def test_a_verdict_on_another_case_does_not_count(store, curated):
    choose(store, "n1")
    choose(store, "n2", digest="0" * 64)
    with pytest.raises(InputError, match="no verdict: got n2"):
        draft_release(store, "0.1.0", curated.recipe)


def test_all_discarded_is_refused(store, curated):
    for name in ("n1", "n2"):
        choose(store, name, None, verdict="discard")
    with pytest.raises(InputError, match="every nodule was discarded"):
        draft_release(store, "0.1.0", curated.recipe)


def test_damaged_files_are_refused_by_name(store, curated):
    pick_automatically(store)
    key = f"cases/n1/{find_outcome(store, 'n1').digest}/image/zarr.json"
    store.put(key, b"{}")
    with pytest.raises(
        InputError, match=r"stored files are damaged: got cases/n1/.*/image/zarr\.json"
    ):
        draft_release(store, "0.1.0", curated.recipe)


def test_a_matte_that_is_none_is_refused(store, curated):
    choose(store, "n1")
    choose(store, "n2", "shared")
    with pytest.raises(InputError, match=r"unfit for release: got n2 \(shared\): no such matte"):
        draft_release(store, "0.1.0", curated.recipe)


def test_a_method_that_did_not_converge_is_refused(store, hurried):
    outcome = curate_nodule(take_inventory(hurried, None).nodules[0], hurried)
    from storage.cases.case import read_case

    reports = read_case(store, "n1", outcome.digest).facts.reports
    missing = next(name for name, report in reports.items() if not report.converged)
    choose(store, "n1", missing)
    with pytest.raises(InputError, match=r"unfit for release: got n1 \(.*not within 0\.\.1"):
        draft_release(store, "0.1.0", hurried.recipe)


def test_cases_of_several_recipes_are_refused(store, curated):
    other = Recipe.model_validate({"crop": {"in_plane_voxels": 24}, "trimap": {"dilation_mm": 2}})
    curate_nodule(take_inventory(curated, None).nodules[1], replace(curated, recipe=other))
    pick_automatically(store)
    with pytest.raises(
        InputError, match=r"computed with another recipe than paper: got n1, expected none"
    ):
        draft_release(store, "0.1.0", other)


def test_unknown_attributes_are_not_published(store, curated):
    pick_automatically(store)
    key = f"cases/n1/{find_outcome(store, 'n1').digest}/zarr.json"
    metadata = json.loads(store.get(key))
    metadata["attributes"]["halosign"]["scanner_room"] = "B 12"
    store.put(key, json.dumps(metadata).encode())
    with pytest.raises(InputError, match="attributes that must not be published: got scanner_room"):
        draft_release(store, "0.1.0", curated.recipe)


def test_synthetic_data_are_named_everywhere(store, curated):
    write_outcome(store, replace(find_outcome(store, "n1"), synthetic=True))
    pick_automatically(store)
    draft = draft_release(store, "0.1.0", curated.recipe)
    assert draft.synthetic
    assert b"**Synthetic data.** 1 of 2 scans are simulated" in draft.own_files["README.md"]
    release = publish_release(store, "0.1.0", draft, publisher="ann")
    assert release.manifest.synthetic
    (contradiction,) = verify_release(store, "0.1.0")  # only the outcome was changed
    assert "`stand_in` of 'n1' contradicts its case: got True" in contradiction


def test_a_release_says_what_changed_since_the_one_before(store, curated):
    pick_automatically(store)
    first = draft_release(store, "0.1.0", curated.recipe)
    assert b"This is the first release" in first.own_files["CHANGES.md"]
    publish_release(store, "0.1.0", first, publisher="ann")
    old = latest_verdict(store, "n1").method
    new = "knn" if old != "knn" else "lb"
    choose(store, "n1", new)
    page = draft_release(store, "0.2.0", curated.recipe).own_files["CHANGES.md"].decode()
    assert f"- `~` n1: matte {old} -> {new}; reviewer auto -> ann" in page
    assert "0 added, 0 removed, 1 changed, 1 unchanged" in page


def test_a_damaged_verdict_costs_only_its_own_nodule_a_pick(store, curated):
    store.put("decisions/n1/20260101T000000.000000-0123abcd.json", b"{")
    picks = pick_automatically(store)
    assert [pick.nodule_id for pick in picks.added] == ["n2"]
    assert [error.key.split("/")[1] for error in picks.damaged] == ["n1"]
    assert picks.unpicked == ()


def test_a_damaged_outcome_stops_a_release_instead_of_being_left_out(store, curated):
    pick_automatically(store)
    store.put("outcomes/n1.json", b"{")
    with pytest.raises(InputError, match=r"outcomes are damaged: got n1, .*halosign curate"):
        draft_release(store, "0.1.0", curated.recipe)


def test_a_verdict_that_was_set_aside_is_given_again_before_a_release(store, curated):
    choose(store, "n2")
    choose(store, "n1", "cf")
    last = choose(store, "n1", "lb")
    key = next(key for key in store.list_prefix("decisions/n1") if last.id in key)
    store.put(key, b"{")
    with pytest.raises(CorruptionError, match=r"n1/.* is not a verdict"):
        draft_release(store, "0.1.0", curated.recipe)
    repair(store, [c for file in verify_records(store) for c in file.complaints])
    with pytest.raises(InputError, match=r"verdicts were damaged and set aside: got n1, .*again"):
        draft_release(store, "0.1.0", curated.recipe)
    choose(store, "n1", "knn")
    (member,) = (
        m for m in draft_release(store, "0.1.0", curated.recipe).members if m.nodule_id == "n1"
    )
    assert member.method in {"cf", "knn"}
