"""The error table: means by kind of lesion, the best marked, and losers named."""

import pytest

from qc.report.errors import BASELINES, NoduleErrors, error_table, form_table

METHODS = ("cf", "knn", "lb", "if", "cf+", "knn+", "lb+", "if+")


def measured(kind: str, *, pick: str | None = None, **errors: float) -> NoduleErrors:
    usual = dict.fromkeys(METHODS, 0.5) | dict.fromkeys(BASELINES, 0.9)
    return NoduleErrors(kind, usual | errors, pick)


def test_errors_are_averaged_by_kind_and_the_best_is_marked() -> None:
    table = error_table(
        [measured("solid", cf=0.1), measured("solid", cf=0.2), measured("part-solid", cf=0.4)],
        METHODS,
    )
    assert table is not None
    assert [(row.kind, row.nodules) for row in table.kinds] == [
        ("part-solid", 1),
        ("solid", 2),
        ("all", 3),
    ]
    solid = dict(zip((*METHODS, *table.baselines), table.kinds[1].cells, strict=True))
    assert solid["cf"].error == pytest.approx(0.15)
    assert [name for name, cell in solid.items() if cell.best] == ["cf"]
    assert not solid["cf"].behind_trivial
    assert [name for name, cell in solid.items() if cell.behind_trivial] == []


def test_the_table_says_who_loses_to_a_trivial_matte() -> None:
    def remark(**errors: float) -> str:
        table = error_table([measured("solid", **errors)], METHODS)
        assert table is not None
        return table.kinds[0].remark

    assert "No method is worse than the best trivial matte, HU-linear (0.800)" in remark(
        hu_linear=0.8
    )
    assert "cf, knn are worse than" in remark(cf=0.95, knn=0.96)
    assert "if+ is worse than" in remark(**{"if+": 0.95})
    assert "All methods are worse than the best trivial matte, HU-linear (0.100)" in remark(
        hu_linear=0.1
    )


def test_a_method_that_loses_is_flagged_in_its_cell() -> None:
    table = error_table([measured("solid", cf=0.95)], METHODS)
    assert table is not None
    assert [cell.behind_trivial for cell in table.kinds[0].cells] == [True] + [False] * 10


def test_regret_compares_with_those_that_answer_the_same_question() -> None:
    errors = {"cf": 0.1, "knn+": 0.3, "lb+": 0.2, "hu_linear": 0.0}
    assert measured("solid", pick="knn+", **errors).regret == pytest.approx(0.1)
    assert measured("solid", pick="knn", **errors).regret == pytest.approx(0.4)


def test_both_forms_are_compared_over_the_same_nodules() -> None:
    paper = [{"cf": 0.1, "knn": 0.9, "hu_linear": 0.4}, {"cf": 0.3, "hu_linear": 0.2}]
    improved = [
        {"cf": 0.1, "knn": 0.7, "hu_linear": 0.4},
        {"cf": 0.1, "knn": 0.1, "hu_linear": 0.2},
    ]
    table = form_table({"paper": paper, "improved": improved}, ("cf", "knn", "lb"))
    assert table is not None
    assert (table.forms, table.nodules) == (("paper form", "improved form"), 2)
    rows = {row.name: (row.is_method, row.nodules, row.means) for row in table.rows}
    assert rows == {
        "cf": (True, 2, pytest.approx((0.2, 0.1))),
        "knn": (True, 1, pytest.approx((0.9, 0.7))),
        "HU-linear": (False, 2, pytest.approx((0.3, 0.3))),
    }
    assert form_table({"paper": [], "improved": []}, METHODS) is None


def test_regret_is_the_picks_error_beyond_the_best_methods() -> None:
    nodules = [measured("solid", pick="knn", cf=0.1, knn=0.3), measured("solid", pick="cf", cf=0.1)]
    assert [nodule.regret for nodule in nodules] == pytest.approx([0.2, 0.0])
    table = error_table(nodules, METHODS)
    assert table is not None
    assert table.kinds[0].regret == pytest.approx(0.1)
    assert measured("solid", pick=None).regret is None
    assert measured("solid", pick="discard").regret is None
