"""Whether a release says the same everywhere: manifest, cases, tables, card and metadata.

A SHA-256 proves that a file is what was written, not that it was right. What is compared was stated
by every version of this program; what an earlier one left out is no contradiction.
"""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from storage.cases.case import open_group, read_case_files
from storage.errors import CorruptionError, NotFoundError
from storage.layout import RELEASES, case_prefix
from storage.records import CaseFacts, FileEntry, Manifest, Member, to_json
from storage.releases.contents import ReleaseContents, format_counts
from storage.releases.splits import SPLITS
from storage.store import Store
from storage.zarr_files import ZarrFiles

Facts = Mapping[str, CaseFacts]
"""Of the cases that can be read, by nodule id."""

_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    RecursionError,
    csv.Error,
)
"""What reading a table or JSON of another form raises."""


def find_contradictions(
    store: Store, version: str, manifest: Manifest, damaged: set[str]
) -> list[str]:
    """Find where a release contradicts itself.

    Args:
        store: Where it is.
        version: Under which it is stored.
        manifest: Its manifest.
        damaged: Keys of its files that are missing or changed; they are not read.

    Returns:
        Each contradiction in a sentence.
    """
    found = list(_in_manifest(version, manifest))
    files = _files_of_members(manifest)
    listed = {key for of_one in files.values() for key in of_one}
    found += [
        f"{key!r}: it is no file of a case that the manifest names"
        for key in manifest.case_files
        if key not in listed
    ]
    facts = {}
    for nodule_id, member in manifest.members.items():
        found += _in_files(store, member, files[nodule_id])
        key = f"{case_prefix(member.nodule_id, member.digest)}/zarr.json"
        if key not in files[nodule_id] or key in damaged:
            continue
        try:
            facts[nodule_id] = _read_facts(store, member)
        except CorruptionError as error:
            found.append(str(error))
            continue
        found += _in_case(member, facts[nodule_id], files[nodule_id])
    return found + list(_in_own_files(store, version, manifest, facts, damaged))


def _in_manifest(version: str, manifest: Manifest) -> Iterator[str]:
    """Compare the manifest with itself."""
    members = manifest.members.values()
    yield from _differs("the manifest's version", manifest.version, version, "its folder")
    yield from _differs(
        "the manifest's `stand_in`",
        manifest.synthetic,
        any(member.synthetic for member in members),
        "its nodules",
    )
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for nodule_id, member in manifest.members.items():
        yield from _differs("the id of a nodule", member.nodule_id, nodule_id, "the manifest's key")
        if member.split not in SPLITS:
            expected = f"expected {', '.join(SPLITS)}"
            yield f"{nodule_id!r}: no such split: got {member.split!r}, {expected}"
        # By nodules, since patients of earlier versions may have names
        sides[member.patient_id].setdefault(member.split, nodule_id)
    for of_one in sides.values():
        if len(of_one) > 1:
            where = ", ".join(f"{name!r} in {split!r}" for split, name in of_one.items())
            yield f"nodules of one patient are in several splits: {where}"
    for nodule_id in manifest.discarded:
        if nodule_id in manifest.members:
            yield f"{nodule_id!r}: it is discarded and part of the release"


def _files_of_members(manifest: Manifest) -> dict[str, dict[str, FileEntry]]:
    """Return each nodule's files of those that the manifest lists."""
    prefixes = {
        case_prefix(member.nodule_id, member.digest): name
        for name, member in manifest.members.items()
    }
    files: dict[str, dict[str, FileEntry]] = {name: {} for name in manifest.members}
    for key, entry in manifest.case_files.items():
        owner = prefixes.get("/".join(key.split("/", 3)[:3]))
        if owner is not None:
            files[owner][key] = entry
    return files


def _in_files(store: Store, member: Member, files: Mapping[str, FileEntry]) -> Iterator[str]:
    """Compare a nodule's files with the mark of its case; a copy of a release has no marks."""
    if not files:
        yield f"{member.nodule_id!r}: the manifest lists no file of its case {member.digest!r}"
        return
    try:
        known = read_case_files(store, member.nodule_id, member.digest)
    except NotFoundError:
        return
    except CorruptionError as error:
        yield str(error)
        return
    for key in sorted(known.keys() | files.keys()):
        if known.get(key) != files.get(key):
            what = "it lacks" if key not in files else "it lists as its own"
            what = "it lists another SHA-256 or size of" if key in known and key in files else what
            yield f"the manifest contradicts the mark of {member.nodule_id!r}: {what} {key!r}"


def _read_facts(store: Store, member: Member) -> CaseFacts:
    return open_group(ZarrFiles(store), case_prefix(member.nodule_id, member.digest))[1]


def _in_case(member: Member, facts: CaseFacts, files: Mapping[str, FileEntry]) -> Iterator[str]:
    """Compare what the manifest says of a nodule with its case."""
    name = member.nodule_id
    for what, got, expected in (
        ("nodule", name, facts.nodule),
        ("digest", member.digest, facts.digest),
        ("form", member.form, facts.form),
        ("`stand_in`", member.synthetic, facts.synthetic),
    ):
        yield from _differs(f"the manifest's {what} of {name!r}", got, expected, "its case")
    if member.patient_id != facts.patient:
        yield f"{name!r}: its case is of another patient than the manifest says"
    if member.method not in facts.methods:
        expected = ", ".join(facts.methods)
        yield f"{name!r}: no such method: got {member.method!r}, expected one of {expected}"
        return
    slot = facts.methods.index(member.method)
    chunk = f"{case_prefix(name, member.digest)}/alpha/c/{slot}/0/0/0"
    if chunk not in files:
        yield f"{name!r}: the manifest lists no matte of {member.method!r}: {chunk!r}"


def _in_own_files(
    store: Store, version: str, manifest: Manifest, facts: Facts, damaged: set[str]
) -> Iterator[str]:
    """Compare the release's own files with its manifest."""
    for name, check in _CHECKS.items():
        key = f"{RELEASES}/{version}/{name}"
        if name not in manifest.own_files or key in damaged:
            continue
        try:
            yield from check(store.get(key), manifest, facts)
        except _UNREADABLE as error:
            yield f"{name}: it cannot be read: {type(error).__name__}"


def _in_index(data: bytes, manifest: Manifest, _: Facts) -> Iterator[str]:
    rows = pd.read_parquet(io.BytesIO(data)).to_dict("records")
    expected = {
        name: {**to_json(member), "form": member.form} for name, member in manifest.members.items()
    }
    yield from _in_table("index.parquet", "nodule_id", rows, expected)


def _in_splits(data: bytes, manifest: Manifest, _: Facts) -> Iterator[str]:
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    expected = {
        name: {
            "nodule": member.nodule_id,
            "patient": member.patient_id,
            "digest": member.digest,
            "method": member.method,
            "split": member.split,
        }
        for name, member in manifest.members.items()
    }
    yield from _in_table("splits.csv", "nodule", rows, expected)


def _in_statistics(data: bytes, manifest: Manifest, _: Facts) -> Iterator[str]:
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    expected = {
        name: {"nodule": name, "split": member.split} for name, member in manifest.members.items()
    }
    yield from _in_table("fingerprint.csv", "nodule", rows, expected)


def _in_table(
    name: str,
    key: str,
    rows: list[dict[Any, Any]],
    expected: Mapping[str, Mapping[str, object]],
) -> Iterator[str]:
    """Compare the columns that a table shares with the manifest; others say more than that."""
    nodules = [row[key] for row in rows]
    if sorted(nodules) != sorted(expected):
        lost = ", ".join(map(repr, sorted(expected.keys() - set(nodules)))) or "no nodule"
        more = ", ".join(map(repr, sorted(set(nodules) - expected.keys()))) or "none"
        yield (
            f"{name}: {len(nodules)} rows, {len(expected)} nodules in the manifest; "
            f"it lacks {lost} and adds {more}"
        )
    for row in rows:
        for column, value in expected.get(row[key], {}).items():
            got = None if pd.isna(row.get(column)) else row[column]
            if column not in row or got == value:
                continue
            if column.startswith("patient"):
                yield f"{name}: {row[key]!r} is of another patient than the manifest says"
            else:
                what = f"{name}: {column} of {row[key]!r}"
                yield from _differs(what, got, value, "the manifest")


def _in_quantiles(data: bytes, manifest: Manifest, _: Facts) -> Iterator[str]:
    got = json.loads(data)["nodules"]
    yield from _differs("fingerprint.json: nodules", got, len(manifest.members), "the manifest")


def _in_croissant(data: bytes, manifest: Manifest, _: Facts) -> Iterator[str]:
    card = json.loads(data)
    yield from _differs(
        "croissant.json: version", card["version"], manifest.version, "the manifest"
    )
    for file in card["distribution"]:
        entry = manifest.own_files.get(file["name"])
        known = entry.sha256 if entry else None
        what = f"croissant.json: sha256 of {file['name']!r}"
        yield from _differs(what, file["sha256"], known, "the manifest")


def _in_datacite(data: bytes, manifest: Manifest, _: Facts) -> Iterator[str]:
    got = json.loads(data)["version"]
    yield from _differs("datacite.json: version", got, manifest.version, "the manifest")


def _in_citation(data: bytes, manifest: Manifest, _: Facts) -> Iterator[str]:
    found = re.search(r"^version: (['\"]?)(.*)\1$", data.decode(), re.MULTILINE)
    if found:
        yield from _differs("CITATION.cff: version", found[2], manifest.version, "the manifest")


def _in_card(data: bytes, manifest: Manifest, facts: Facts) -> Iterator[str]:
    """Compare the numbers of the card; sentences that another version worded otherwise are none."""
    target = manifest.target or "density"  # of which nothing here depends
    members = tuple(manifest.members.values())
    contents = ReleaseContents(manifest.version, members, manifest.discarded, facts, {}, "", target)
    discarded = len(manifest.discarded)
    counts = f"{len(members)} nodules of {contents.patient_count} patients; {discarded} discarded"
    expected = {
        r"- (\d+ nodules of \d+ patients; \d+ discarded) in review\.$": counts,
        r"- Sources: .*; simulated scans: (\d+)\.$": str(contents.synthetic_count),
        r"- Splits by patient: (.*)\.$": contents.count("split"),
        r"- Released mattes by method: (.*?);": contents.count("method"),
        r"- Question that the release answers: (\w+),": manifest.target,
    }
    if len(facts) == len(members):
        names = format_counts(contents.form_names)
        expected[r"- Parameters of the matting methods: (.*)\.$"] = names
    text = data.decode()
    for pattern, value in expected.items():
        found = re.search(f"^{pattern}", text, re.MULTILINE)
        if found:
            yield from _differs("README.md", found[1], value, "the manifest")


def _differs(what: str, got: object, expected: object, source: str) -> Iterator[str]:
    if got != expected:
        yield f"{what} contradicts {source}: got {got!r}, expected {expected!r}"


_CHECKS = {
    "index.parquet": _in_index,
    "splits.csv": _in_splits,
    "fingerprint.csv": _in_statistics,
    "fingerprint.json": _in_quantiles,
    "croissant.json": _in_croissant,
    "datacite.json": _in_datacite,
    "CITATION.cff": _in_citation,
    "README.md": _in_card,
}
"""How a release's own file is compared, by its name."""
