import io

import pandas as pd
import pytest

from storage.errors import CorruptionError
from storage.results.scores import (
    METHOD_SCORES,
    Score,
    find_summary,
    list_measured,
    read_lines,
    summarise,
    write_scores,
)

SCORES = [
    Score("a", "cf", "released", "near", 10, 1.0, 0.1, 2.0, 3.0),
    Score("b", "cf", "released", "near", 10, 3.0, 0.3, 4.0, 5.0),
    Score("b", "knn", "released", "near", 10, 7.0, 0.3, 4.0, 5.0),
]


def test_lines_are_means_over_the_nodules_that_count():
    cf, knn = summarise(SCORES)
    assert (cf.matte, cf.nodules, cf.means["sad"], cf.deviations["sad"]) == ("cf", 2, 2.0, 1.0)
    assert (knn.matte, knn.nodules, knn.means["sad"], knn.deviations["sad"]) == ("knn", 1, 7.0, 0.0)


def test_scores_come_back_and_are_stored_outside_the_release(store):
    lines = write_scores(store, "0.1.0", "test", METHOD_SCORES, SCORES, synthetic=True)
    summary = find_summary(store, "0.1.0", "test", METHOD_SCORES)
    assert (summary.lines, summary.synthetic, summary.release) == (lines, True, "0.1.0")
    assert read_lines(store, "0.1.0", "test", METHOD_SCORES, "no such network") == list(lines)
    assert list_measured(store, "0.1.0", "test") == [METHOD_SCORES]
    assert list_measured(store, "0.1.0", "train") == []
    rows = pd.read_csv(
        io.BytesIO(store.get(f"metrics/0.1.0/test/{METHOD_SCORES}.csv")), comment="#"
    ).to_dict("records")
    assert [(row["nodule"], float(row["conn"])) for row in rows] == [
        ("a", 3.0),
        ("b", 5.0),
        ("b", 5.0),
    ]
    assert list(store.list_prefix("releases")) == []


def test_what_was_not_measured_is_none_and_what_is_not_a_summary_is_damage(store):
    assert find_summary(store, "0.1.0", "test", METHOD_SCORES) is None
    store.put(f"metrics/0.1.0/test/{METHOD_SCORES}.json", b'{"lines": [{"matte": "cf"}]}')
    with pytest.raises(CorruptionError, match="is not a summary of scores"):
        find_summary(store, "0.1.0", "test", METHOD_SCORES)
