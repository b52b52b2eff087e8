import itertools
import os
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from matting.errors import InputError
from matting.parameters import IMPROVED_RESAMPLE, IMPROVED_TRIMAP, Parameters
from storage.recipe import Recipe, load_recipe, parse_override


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_the_papers_recipe_spells_out_every_default():
    written = yaml.safe_load((files("recipes") / "paper.yaml").read_text())
    assert written == Recipe().model_dump(mode="json")
    assert load_recipe() == load_recipe("paper") == Recipe()
    assert load_recipe().parameters == Parameters()
    assert load_recipe().form == Parameters().form == "paper"


def test_the_improved_recipe_spells_out_the_improved_form():
    written = yaml.safe_load((files("recipes") / "improved.yaml").read_text())
    recipe = load_recipe("improved")
    assert written == {"name": "improved", **recipe.content_key()}
    assert recipe.parameters == Parameters.improved()
    assert (recipe.trimap, recipe.resample) == (IMPROVED_TRIMAP, IMPROVED_RESAMPLE)
    assert recipe.form == Parameters.improved().form == "improved"


@pytest.mark.parametrize("name", ["demo", "cpu"])
def test_recipes_of_small_machines_have_the_paper_form(name):
    assert load_recipe(name).form == "paper"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("crop: {padding_slices: 4}", "paper"),
        ("review: {target: opacity}", "paper"),
        ("trimap: {dilation_mm: 2.0}", "custom"),
        ("resample: {image: bspline}", "custom"),
        ("knn: {neighbours: [9, 2]}", "custom"),
    ],
)
def test_the_form_is_told_by_methods_trimap_and_grid(tmp_path, text, form):
    assert load_recipe(write(tmp_path, text)).form == form


def test_the_question_decides_no_bytes(tmp_path):
    opacity = load_recipe(write(tmp_path, "review: {target: opacity}"))
    assert Recipe().review.target == "density"
    assert opacity.review.target == "opacity"
    assert opacity.content_key() == Recipe().content_key()
    with pytest.raises(InputError, match=r"'alpha' for `review\.target`.*'density' or 'opacity'"):
        load_recipe(write(tmp_path, "review: {target: alpha}"))


def test_a_file_overrides_what_it_names(tmp_path):
    recipe = load_recipe(
        write(tmp_path, "name: mine\ntrimap: {dilation_mm: 2.0}\nknn: {neighbours: [5, 3]}\n")
    )
    assert recipe.trimap.dilation_mm == 2.0
    assert recipe.trimap.min_core_voxels == Recipe().trimap.min_core_voxels
    assert recipe.parameters.knn.neighbours == (5, 3)


def test_name_run_and_release_do_not_decide_bytes_and_the_rest_does(tmp_path):
    same = load_recipe(write(tmp_path, "name: x\nrun: {retries: 9}\nrelease: {split_seed: 1}\n"))
    assert same.content_key() == Recipe().content_key()
    for text in (
        "readers: 3",
        "crop: {padding_slices: 4}",
        "closed_form: {epsilon: 1.0e-6}",
        "density: {level_hu: -500}",
    ):
        assert load_recipe(write(tmp_path, text)).content_key() != Recipe().content_key()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "trimap: {min_core_voxels: 0}",
            r"trimap\.min_core_voxels is out of bounds: got 0, expected 1 or more",
        ),
        ("crop: {padding_slices: -1}", r"crop\.padding_slices is out of bounds: got -1"),
        (
            "trimap: {dilation_m: 2}",
            r"unknown name `trimap\.dilation_m`.*Did you mean `dilation_mm`\?",
        ),
        ("trimpa: {}", r"unknown name `trimpa`.*Did you mean `trimap`\?"),
        ("zzz: 1", r"unknown name `zzz`.*Known here: name, readers"),
        ("run: {retry: 1}", r"unknown name `run\.retry`.*Did you mean `retries`\?"),
        ("readers: 1", "got 1 for `readers`"),
        ("run: {failure_budget: 2}", r"got 2 for `run\.failure_budget`"),
        ("crop: {padding_slices: three}", r"'three' for `crop\.padding_slices`"),
        ("resample: {image: cubic}", r"'cubic' for `resample\.image`"),
        (
            "resample: {spacing_mm: 0}",
            r"resample\.spacing_mm is out of bounds: got 0\.0, expected a length",
        ),
        ("- a list", "got list, expected sections by name"),
        ("a: [", "expected YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_recipe(write(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be used: got .*No such file"):
        load_recipe(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("asked", [None, "paper", "improved", "cpu", "demo"])
def test_a_recipe_that_is_shipped_is_meant_whatever_the_folder_holds(asked, tmp_path, monkeypatch):
    meant = load_recipe(asked)
    monkeypatch.chdir(tmp_path)
    for name in ("paper", "improved"):
        (tmp_path / name).mkdir()
    for name in ("cpu", "demo"):
        (tmp_path / name).write_text("name: another\n")
    assert load_recipe(asked) == meant
    assert load_recipe("./demo").name == "another"


def test_a_name_with_a_typo_is_answered_with_the_recipe_that_it_resembles():
    with pytest.raises(InputError, match=r"got papr: No such file.*Did you mean `paper`\?"):
        load_recipe("papr")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "trimap: {dilation_mm: wide}",
            "got 'wide' for `trimap.dilation_mm`, expected a valid number.",
        ),
        ("trimap: 2", "got 2 for `trimap`, expected names and values."),
        ("readers: 0", "got 0 for `readers`, expected a value greater than or equal to"),
    ],
)
def test_a_value_of_another_kind_is_told_in_plain_words(tmp_path, text, message):
    with pytest.raises(InputError) as refusal:
        load_recipe(write(tmp_path, text))
    assert message in str(refusal.value)


def test_nothing_but_data_is_read_from_yaml(tmp_path):
    with pytest.raises(InputError, match="expected YAML"):
        load_recipe(write(tmp_path, "name: !!python/object/apply:os.getcwd []"))


def test_the_check_of_hu_enters_the_digest_only_where_it_is_off(tmp_path):
    assert "hu_check" not in load_recipe().content_key()
    assert load_recipe(write(tmp_path, "hu_check: false")).content_key()["hu_check"] is False


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB.encode(), "aliases are not read"),
        (b"crop: &a {padding_slices: 3}\nresample: *a\n", "aliases are not read"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "got"),
        (b"readers: " + b"9" * 5000, "got"),
        (b"name: " + b"x" * 1_000_001, "more than 1 MB"),
        (b"readers: !!python/object/apply:os.system ['true']", "could not determine"),
        (b"crop: {padding_slices: 2024-13-45}", "got"),
        (b"when: 2024-99-99 99:99:99", "got"),
        (b"\xff\xfe\x00", "got"),
        (b"a: \x00", "got"),
        (b"[1, 2]", "sections by name"),
    ],
)
def test_hostile_recipes_are_refused_in_few_words(tmp_path, content, words):
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=words) as refused:
        load_recipe(file)
    assert len(str(refused.value)) < 2000


def test_a_recipe_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for place in (tmp_path, tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(InputError, match="no regular file"):
            load_recipe(place)


def test_settings_have_no_aliases_either():
    with pytest.raises(InputError, match="a setting cannot be parsed"):
        parse_override(["trimap.dilation_mm=[&a 1, *a]"])
