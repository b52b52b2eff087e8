"""Records that anybody may have written: of another shape or depth, with keys that lead out."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import CorruptionError
from storage.records import (
    CheckpointConfig,
    Claim,
    DoneMark,
    ExportMarker,
    FileList,
    Manifest,
    Outcome,
    Run,
    Study,
    Verdict,
    Withdrawal,
    parse_record,
)

KINDS = (
    *(CheckpointConfig, Claim, DoneMark, ExportMarker, FileList, Manifest, Outcome, Run, Study),
    *(Verdict, Withdrawal),
)
DOCUMENTS = {
    "empty": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "null": b"null",
    "text": b'"x"',
    "other keys": b'{"a": 1}',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "long number": b'{"version": ' + b"9" * 100_000 + b"}",
    "infinite number": b'{"seconds": 1e999}',
    "not UTF-8": b'{"a": "\xff"}',
    "half a surrogate": b'{"version": "\\ud800"}',
    "a zero": b"\0" * 1000,
    "twice a key": b'{"version": "1", "version": 2}',
}
KEYS = ("", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a/", "a\\b", "a\0b")
ENTRY = {"sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_another_document_is_a_corruption_in_few_words(kind, document):
    with pytest.raises(CorruptionError) as refused:
        parse_record(DOCUMENTS[document], kind, "a/key.json")
    assert "a/key.json is not" in str(refused.value)
    assert len(str(refused.value)) < 1000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.sampled_from(KINDS), st.data())
@settings(max_examples=200, deadline=None)
def test_values_of_any_kind_in_known_places_are_a_record_or_a_corruption(kind, data):
    names = [*kind.__dataclass_fields__, "nodules", "stand_in", "manifest", "sha256"]
    document = data.draw(st.dictionaries(st.sampled_from(names), VALUES))
    with contextlib.suppress(CorruptionError):
        assert isinstance(parse_record(json.dumps(document).encode(), kind, "key"), kind)


@pytest.mark.parametrize("key", KEYS)
def test_keys_that_lead_out_are_refused_wherever_files_are_listed(key):
    listed = {key: ENTRY}
    records = [
        (FileList, {"files": listed}),
        (DoneMark, {"digest": "d", "files": listed}),
    ]
    base = {
        "version": "0.1.0", "published_at": "", "publisher": "", "stand_in": False, "recipe": {},
        "nodules": {}, "discarded": [], "own_files": {}, "case_files": {},
    }  # fmt: skip
    assert parse_record(json.dumps(base).encode(), Manifest, "key")
    records += [(Manifest, {**base, name: listed}) for name in ("own_files", "case_files")]
    for kind, document in records:
        with pytest.raises(CorruptionError, match="is no relative path"):
            parse_record(json.dumps(document).encode(), kind, "key")


def test_a_size_below_zero_is_refused():
    document = {"files": {"a": {**ENTRY, "bytes": -1}}}
    with pytest.raises(CorruptionError, match="greater than or equal to 0"):
        parse_record(json.dumps(document).encode(), FileList, "key")
