import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.csv_cells import neutralize, restore

TEXTS = st.text(st.sampled_from("=+-@'\t\r0.5eax "), max_size=6)


@given(TEXTS)
def test_a_text_comes_back_and_is_never_a_formula(text):
    written = neutralize(text)
    assert restore(written) == text
    try:
        float(written)
    except ValueError:
        assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("cell", [-0.5, "-0.5", "-1e-7", "", None, True, "solid", "a=b", "x-1"])
def test_numbers_and_plain_texts_stay_as_they_are(cell):
    assert neutralize(cell) is cell


def test_a_formula_is_a_text():
    assert neutralize('=HYPERLINK("http://x")') == '\'=HYPERLINK("http://x")'
    assert neutralize("-1+1") == "'-1+1"
