"""A table proposed for a folder, by the names of its files, for a person to check.

Four layouts are known: LNDb, nnU-Net with a folder of labels per reader, BIDS with derivatives, and
a folder per case with segmentations of 3D Slicer. No volume is opened.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matting.errors import InputError
from storage.sources.dicom_headers import folders_with_files

COLUMNS = ("nodule", "patient", "image", "readers", "n_readers")

_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
_SEGMENTATION = ".seg.nrrd"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ProposedRow:
    """One nodule."""

    nodule: str
    patient: str
    image: Path
    readers: tuple[tuple[Path, str], ...]
    """File and label of each reader, or one file for all; the label is empty where none is."""
    number: int | None
    """How many readers these are; None where the file tells."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a folder seems to hold."""

    layout: str
    """Name of the layout."""
    rows: tuple[ProposedRow, ...]
    """Sorted by nodule."""
    unused: tuple[Path, ...]
    """Volumes that no row names, sorted."""


def propose_table(folder: Path) -> Proposal:
    """Return the table that a folder's names suggest.

    Raises:
        InputError: No layout is recognised, or the folder is not there.
    """
    if not folder.is_dir():
        raise InputError(
            "there is no such folder", got=folder, expected="a folder", remedy="Check the path."
        )
    found, _ = folders_with_files(folder)
    files = sorted(path for inner in found for path in inner.iterdir() if path.is_file())
    volumes = [path for path in files if _stem(path) is not None]
    for layout, rows_of in _LAYOUTS.items():
        rows = sorted(rows_of(files, volumes), key=lambda row: row.nodule)
        if rows:
            named = {row.image for row in rows}
            named |= {path for row in rows for path, _ in row.readers}
            unused = tuple(path for path in volumes if path not in named)
            return Proposal(layout, tuple(rows), unused)
    raise InputError(
        "no known layout is recognised",
        got=f"{len(volumes)} volumes below {folder}",
        expected=", ".join(_LAYOUTS),
        remedy="Write the table by hand: docs/sources.md has its columns.",
    )


def write_table(proposal: Proposal, table: Path) -> None:
    """Write a proposal as CSV, with paths relative to the table where they lie below it.

    Raises:
        InputError: There is a file of that name.
    """
    if table.exists():
        raise InputError(
            "there is a file of that name",
            got=table,
            expected="a new file",
            remedy="Give another --out, or remove it.",
        )
    root = table.resolve().parent
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in proposal.rows:
            entries = [
                _relative(path, root) + (f":{label}" if label else "")
                for path, label in row.readers
            ]
            number = "" if row.number is None else str(row.number)
            image = _relative(row.image, root)
            writer.writerow([row.nodule, row.patient, image, ";".join(entries), number])


def _relative(path: Path, root: Path) -> str:
    whole = path.resolve()
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()


def _stem(path: Path) -> str | None:
    """Return a volume's name without its suffix; None for any other file."""
    lower = path.name.lower()
    suffix = next((s for s in (_SEGMENTATION, *_SUFFIXES) if lower.endswith(s)), None)
    return None if suffix is None or lower.startswith(".") else path.name[: -len(suffix)]


def _lndb(files: Sequence[Path], volumes: Sequence[Path]) -> Iterator[ProposedRow]:
    """LNDb: trainNodules_gt.csv joins the finding ids of several readers into nodules."""
    named = {str(_stem(path)): path for path in volumes}
    for table in (path for path in files if path.suffix.lower() == ".csv"):
        with table.open(encoding="utf-8-sig", newline="", errors="replace") as stream:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            if not {"LNDbID", "RadID", "RadFindingID", "FindingID", "Nodule"} <= columns:
                continue
            for cells in reader:
                case = f"LNDb-{int(cells['LNDbID']):04d}"
                readers = list(_pairs(cells["RadID"], cells["RadFindingID"]))
                stems = [f"{case}_rad{rad}" for rad, _ in readers]
                if float(cells["Nodule"]) < 1 or not {case, *stems} <= named.keys():
                    continue
                entries = tuple(
                    (named[stem], finding)
                    for stem, (_, finding) in zip(stems, readers, strict=True)
                )
                name = f"{case}-{cells['FindingID'].strip()}"
                yield ProposedRow(name, case, named[case], entries, len(entries))


def _pairs(readers: str, findings: str) -> Iterator[tuple[str, str]]:
    yield from zip(
        (part.strip() for part in readers.split(",")),
        (part.strip() for part in findings.split(",")),
        strict=False,
    )


def _nnunet(files: Sequence[Path], volumes: Sequence[Path]) -> Iterator[ProposedRow]:
    """nnU-Net: imagesTr/CASE_0000 and CASE in each folder labelsTr*, one folder a reader."""
    del files
    labels: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in volumes:
        if path.parent.name.lower().startswith("labels"):
            labels[path.parent.parent, str(_stem(path))].append(path)
    for image in volumes:
        stem = str(_stem(image))
        if image.parent.name.lower().startswith("images") and stem.endswith("_0000"):
            case = stem.removesuffix("_0000")
            masks = labels[image.parent.parent, case]
            if masks:
                yield _row(case, case, image, masks)


def _bids(files: Sequence[Path], volumes: Sequence[Path]) -> Iterator[ProposedRow]:
    """BIDS: sub-X[_ses-Y]..._ct and, below derivatives, masks of the same subject and session."""
    del files
    masks: dict[str, list[Path]] = defaultdict(list)
    for path in volumes:
        stem = str(_stem(path))
        if "derivatives" in path.parts and re.search(r"_(mask|dseg)(_|$)", stem):
            masks[_subject(stem)].append(path)
    for image in volumes:
        stem = str(_stem(image))
        subject = _subject(stem)
        is_ct = stem.lower().endswith("_ct") and "derivatives" not in image.parts
        if is_ct and subject in masks:
            yield _row(subject, subject.partition("_")[0], image, masks[subject])


def _subject(stem: str) -> str:
    found = re.match(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?", stem)
    return found[0] if found else ""


def _slicer(files: Sequence[Path], volumes: Sequence[Path]) -> Iterator[ProposedRow]:
    """3D Slicer: in each folder one volume, and segmentations of it (.seg.nrrd)."""
    del files
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in volumes:
        by_folder[path.parent].append(path)
    for folder, inside in by_folder.items():
        segmentations = [path for path in inside if path.name.lower().endswith(_SEGMENTATION)]
        images = [path for path in inside if path not in segmentations]
        if segmentations and len(images) == 1:
            yield _row(folder.name, folder.name, images[0], segmentations)


def _row(nodule: str, patient: str, image: Path, masks: Sequence[Path]) -> ProposedRow:
    name, patient = (_UNSAFE.sub("-", text).strip("-._") for text in (nodule, patient))
    number = len(masks) if len(masks) > 1 else None
    return ProposedRow(name, patient, image, tuple((mask, "") for mask in sorted(masks)), number)


_LAYOUTS: dict[str, Callable[[Sequence[Path], Sequence[Path]], Iterator[ProposedRow]]] = {
    "LNDb": _lndb,
    "nnU-Net": _nnunet,
    "BIDS": _bids,
    "3D Slicer": _slicer,
}
