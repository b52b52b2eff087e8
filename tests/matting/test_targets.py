"""The automatic pick: four forms answer a question, and their families are ranked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matting import METHODS
from matting.targets import TARGETS, family_of, rank, target_of

FAMILIES = ("cf", "knn", "lb", "if")
FORM = {"opacity": "", "density": "+"}
Figures = dict[str, dict[str, float]]

figure = st.sampled_from([0.1, 0.2, 0.3])
metrics = st.fixed_dictionaries(
    {
        "cross_entropy": figure,
        "compositing_residual": figure,
        "slice_roughness": figure,
        "mass_outside": figure,
    }
)


@st.composite
def figures_of_converged(draw: st.DrawFn) -> Figures:
    converged = draw(st.sets(st.sampled_from(METHODS)))
    return {name: draw(metrics) for name in METHODS if name in converged}


def figures(agreement: dict[str, float]) -> Figures:
    return {name: {"cross_entropy": value} for name, value in agreement.items()}


def test_plain_forms_estimate_opacity_and_the_others_density() -> None:
    assert [target_of(name) for name in METHODS] == ["opacity"] * 4 + ["density"] * 4
    assert [family_of(name) for name in METHODS] == [*FAMILIES, *FAMILIES]


@given(figures_of_converged(), st.sampled_from(TARGETS))
def test_the_ranking_has_each_converged_form_that_answers_once(found: Figures, target: str) -> None:
    ranking = rank(found, target)
    assert sorted(ranking) == sorted(name for name in found if target_of(name) == target)


@given(figures_of_converged())
def test_the_order_of_families_does_not_depend_on_the_question(found: Figures) -> None:
    both = {family for family in FAMILIES if {family, family + "+"} <= found.keys()}
    orders = {
        tuple(family_of(name) for name in rank(found, target) if family_of(name) in both)
        for target in TARGETS
    }
    assert len(orders) == 1


@given(figures_of_converged(), st.sampled_from(TARGETS), st.sampled_from(FAMILIES), metrics)
def test_figures_of_the_plus_form_do_not_matter(
    found: Figures, target: str, family: str, other: dict[str, float]
) -> None:
    changed = {name: other if name == family + "+" else one for name, one in found.items()}
    assert rank(changed, target) == rank(found, target)


@given(figures_of_converged(), st.sampled_from(TARGETS))
def test_a_family_whose_plain_form_did_not_converge_comes_last(found: Figures, target: str) -> None:
    has_figures = [family_of(name) in found for name in rank(found, target)]
    assert has_figures == sorted(has_figures, reverse=True)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("found", "families"),
    [
        ({"cf": (0.2, 0.1), "knn": (0.1, 0.9)}, ["knn", "cf"]),
        ({"cf": (0.1, 0.2), "knn": (0.1, 0.1)}, ["knn", "cf"]),
        ({"cf": (0.1, 0.1), "knn": (0.1, 0.1), "lb": (0.1, 0.1)}, ["cf", "knn", "lb"]),
        ({}, []),
    ],
    ids=["agreement", "compositing breaks ties", "then the stored order", "nothing converged"],
)
def test_what_decides(
    target: str, found: dict[str, tuple[float, float]], families: list[str]
) -> None:
    names = ("cross_entropy", "compositing_residual")
    both = {
        family + form: dict(zip(names, values, strict=True))
        for form in ("", "+")
        for family, values in found.items()
    }
    assert rank(both, target) == tuple(family + FORM[target] for family in families)


def test_a_family_is_passed_over_where_its_form_did_not_converge() -> None:
    found = figures({"cf": 0.1, "knn": 0.2, "lb": 0.3, "knn+": 9.0, "lb+": 0.0, "if+": 0.0})
    assert rank(found, "density") == ("knn+", "lb+", "if+")
    assert rank(found, "opacity") == ("cf", "knn", "lb")


def test_where_no_form_answers_nothing_is_picked() -> None:
    assert rank(figures({"cf": 0.1}), "density") == ()


def test_figures_under_older_names_leave_the_stored_order() -> None:
    found: Figures = {name: {"agreement": 1.0 / (n + 1)} for n, name in enumerate(METHODS)}
    assert rank(found, "density") == METHODS[4:]
