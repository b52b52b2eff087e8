"""Records of the first edition are read and encoded unchanged; others are refused."""

import dataclasses
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from storage import records
from storage.errors import CorruptionError, NotFoundError
from storage.records import (
    CaseFacts,
    CheckpointConfig,
    Claim,
    Cost,
    DoneMark,
    ExportMarker,
    FileEntry,
    FileList,
    Manifest,
    Outcome,
    Run,
    ScoreSummary,
    StoreMarker,
    Study,
    StudyItem,
    TrainerProgress,
    TrainingEnd,
    TrainingState,
    Verdict,
    Withdrawal,
    codec,
    encode,
    is_sealed,
    parse_record,
    read_record,
    to_json,
)
from tests.cases import experiment_facts

OLD = Path(__file__).parent / "old_records"
"""Written by the first edition, one by algorithm 8; long lists are cut short."""


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def in_order(value: object) -> bytes:
    return json.dumps(value).encode()


def indented(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def indented_and_sorted(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


STORED = {
    "manifest.json": (Manifest, canonical),
    "claim.json": (Claim, canonical),
    "outcome.json": (Outcome, canonical),
    "run.json": (Run, canonical),
    "verdict.json": (Verdict, canonical),
    "done.json": (DoneMark, canonical),
    "training_end.json": (TrainingEnd, canonical),
    "export.json": (ExportMarker, canonical),
    "store.json": (StoreMarker, canonical),
    "facts_of_lidc.json": (CaseFacts, in_order),
    "facts_of_table.json": (CaseFacts, in_order),
    "facts_of_algorithm_8.json": (CaseFacts, in_order),
    "scores_of_network.json": (ScoreSummary, indented),
    "scores_of_methods.json": (ScoreSummary, indented),
    "checkpoint.json": (CheckpointConfig, indented_and_sorted),
}

ITEM = StudyItem("P-1", "d", "lb", ("reader-1", "matte"), True)
MADE = [
    Study("pilot", 1, 2, "", (ITEM,), "ann", "2026-01-01T00:00:00+00:00"),
    Withdrawal("0.1.0", "mislabelled", "ann", "2026-01-01T00:00:00+00:00"),
    Cost("3dmm", "told", 1, 2, 0.5, 1.5, "16x32x32", 0.1, 7, "a CPU", "2"),
    TrainingState(TrainerProgress(3, [0.1], 2, [], {}), [{"sad": None}], [2]),
    experiment_facts(),
    FileList({"report/index.html": FileEntry("a" * 64, 7)}),
]
"""Of kinds that the small stores of the first edition do not have."""


@pytest.mark.parametrize("name", STORED)
def test_a_record_of_the_first_edition_is_encoded_unchanged(name):
    kind, encoding = STORED[name]
    data = (OLD / name).read_bytes()
    assert encoding(to_json(parse_record(data, kind, name))) == data


@pytest.mark.parametrize("record", MADE, ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written(record):
    assert parse_record(encode(record), type(record), "key") == record


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "name", [*(name for name in STORED if "facts" not in name), *range(len(MADE))]
)
def test_every_flipped_bit_of_a_record_is_noticed(name, indent):
    record = MADE[name] if isinstance(name, int) else old_record(name)
    data = encode(record, indent=indent)
    assert is_sealed(data)
    assert parse_record(data, type(record), "key") == record
    dice = random.Random(1)
    for place in dice.sample(range(len(data)), min(len(data), 300)) + list(range(-90, 0)):
        spoiled = bytearray(data)
        spoiled[place] ^= 1 << dice.randrange(8)
        with pytest.raises(CorruptionError):
            parse_record(bytes(spoiled), type(record), "key")


def old_record(name):
    return parse_record((OLD / name).read_bytes(), STORED[name][0], name)


def test_a_record_of_the_first_edition_has_no_checksum():
    assert not any(is_sealed((OLD / name).read_bytes()) for name in STORED)


def test_every_kind_of_record_is_tested():
    kinds = {kind for kind in vars(records).values() if hasattr(kind, "noun")}
    tested = {kind for kind, _ in STORED.values()} | {type(record) for record in MADE}
    assert kinds == tested


EXAMPLES: dict[str, tuple[type, Any]] = {
    **{name: (kind, json.loads((OLD / name).read_bytes())) for name, (kind, _) in STORED.items()},
    **{type(record).__name__: (type(record), to_json(record)) for record in MADE},
}


@cache
def schema_of(kind: type) -> dict[str, Any]:
    schema = codec._adapter(kind).json_schema(by_alias=True)
    # A kind that contains itself is a reference to its definition.
    name = schema.get("$ref", "").rpartition("/")[2]
    return schema["$defs"][name] if name else schema


def required(kind: type) -> list[str]:
    """Stored names of the fields that a record cannot lack."""
    return list(schema_of(kind)["required"])


def damaged(kind: type, value: dict[str, Any]) -> dict[str, bytes]:
    """What may be found in place of a record."""
    first = required(kind)[0]
    rest = {name: part for name, part in value.items() if name != first}
    nested: Any = 0
    for _ in range(500):
        nested = [nested]
    forms = {
        "nothing": b"",
        "not JSON": b'{"half":',
        "not text": b"\xff\xfe\x00",
        "list": b"[]",
        "object without fields": b"{}",
        "null": b"null",
        "number": b"1",
        "text": b'"text"',
        "missing field": canonical(rest),
        "deep": b"[" * 100_000,
        "deep in a field": canonical({**rest, first: nested}),
    }
    for name in required(kind):
        for wrong in (None, [], {"x": 1}, "text", 1.5):
            if not allows(kind, value, name, wrong):
                forms[f"{name} is {wrong}"] = canonical({**value, name: wrong})
    return forms


def allows(kind: type, value: dict[str, Any], name: str, wrong: object) -> bool:
    """Return whether a value has the type of the one that is stored."""
    stored = value[name]
    if isinstance(stored, dict | list) and type(stored) is type(wrong):
        return True
    types = json.dumps(schema_of(kind)["properties"][name])
    if wrong is None and "null" in types:
        return True
    if isinstance(stored, float | int) and not isinstance(stored, bool):
        return isinstance(wrong, float) and "number" in types
    return type(stored) is type(wrong) and name not in {"state", "verdict"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_anything_else_is_refused_with_key_reason_and_remedy(store, name):
    kind, value = EXAMPLES[name]
    assert parse_record(canonical(value), kind, "key")
    for form, data in damaged(kind, value).items():
        store.put("some/key.json", data)
        with pytest.raises(CorruptionError) as caught:
            read_record(store, "some/key.json", kind)
        assert caught.value.key == "some/key.json"
        message = str(caught.value)
        assert message.startswith(f"{store.url}/some/key.json is not {kind.noun}: "), form
        assert message.endswith(getattr(kind, "remedy", "Restore it from a backup.")), form


def test_a_key_that_does_not_exist_is_not_found(store):
    with pytest.raises(NotFoundError) as caught:
        read_record(store, "outcomes/P-1.json", Outcome)
    assert caught.value.key == "outcomes/P-1.json"


def test_a_field_that_is_not_known_is_refused_where_nothing_may_be_added():
    value = {**json.loads((OLD / "outcome.json").read_bytes()), "mood": "fine"}
    with pytest.raises(CorruptionError, match="mood: Unexpected keyword argument"):
        parse_record(canonical(value), Outcome, "outcomes/P-1.json")


def test_a_network_of_a_later_version_is_read():
    value = {**json.loads((OLD / "checkpoint.json").read_bytes()), "optimizer": "other"}
    assert parse_record(canonical(value), CheckpointConfig, "config.json").variant == "3dmm-mg"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("variant", "4dmm", "variant: .*got '4dmm', expected 3dmm, 3dmm-m, 3dmm-mg"),
        ("auxiliary", "yes", "auxiliary: .*'told', 'untold' or 'none'"),
        ("auxiliary", 1, "auxiliary: .*'told', 'untold' or 'none'"),
        ("spacing_mm", 0.0, "spacing_mm: .*greater than 0"),
        ("spacing_mm", -0.5, "spacing_mm: .*greater than 0"),
        ("spacing_mm", float("inf"), "spacing_mm: "),
        ("spacing_mm", float("nan"), "spacing_mm: "),
        ("intensity_range_hu", [400.0, -1000.0], "400 to -1000 is no range of HU"),
        ("intensity_range_hu", [0.0, 0.0], "0 to 0 is no range of HU"),
        ("intensity_range_hu", [0.0, float("inf")], "intensity_range_hu"),
        ("precision", "quarter", "got 'quarter', expected single, bfloat16, half"),
        ("partition", -1, "partition: "),
        ("nodules", 0, "nodules: "),
        ("threads", [0], "threads.0: "),
        ("digest", "../../etc", "digest: .*pattern"),
        ("digest", "A" * 64, "digest: .*pattern"),
        ("digest", f"{'a' * 64}\n", "digest: .*pattern"),
        ("digest", None, "digest: "),
        ("weights_sha256", "abc", "weights_sha256: .*pattern"),
    ],
)
def test_the_configuration_of_a_network_that_makes_no_sense_is_refused(field, value, reason):
    config = {**json.loads((OLD / "checkpoint.json").read_bytes()), field: value}
    with pytest.raises(CorruptionError, match=f"{reason}.*Fetch the network again, or train it"):
        parse_record(json.dumps(config).encode(), CheckpointConfig, "config.json")


@pytest.mark.parametrize("field", ["digest", "weights_sha256"])
def test_a_network_has_its_sums(field):
    config = json.loads((OLD / "checkpoint.json").read_bytes())
    del config[field]
    with pytest.raises(CorruptionError, match=f"{field}: .*pattern"):
        parse_record(canonical(config), CheckpointConfig, "config.json")


def test_facts_of_a_source_that_is_neither_are_refused():
    value = json.loads((OLD / "facts_of_table.json").read_bytes())
    for source in ({}, {"columns": {"texture": 5}}, {"annotations": 5}, {"columns": {}, "x": 1}):
        with pytest.raises(CorruptionError, match="source"):
            parse_record(in_order({**value, "source": source}), CaseFacts, "key")


def test_records_cannot_be_changed():
    for kind, value in EXAMPLES.values():
        record = parse_record(canonical(value), kind, "key")
        name = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)
