"""Random 96^3 crops per second from a release, .nii.gz and .npz, and bytes per nodule.

    python -m benchmarks.reading

Every format gives the same four things of the same boxes: image, released matte, each reader's
mask, validity. The .nii.gz are those of `halosign release export`; the .npz hold these arrays
alone, compressed and not. Seconds are CPU seconds of one thread, and files are in the page cache.
Formats take turns.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import nibabel as nib
import numpy as np

from benchmarks.measure import command_line, one_thread, save, table
from benchmarks.nodules import Ready, case_facts, make_ready, nodules, real_folder
from matting import estimate_alphas
from matting.parameters import CropSettings
from storage.cases.case import NewCase, read_case_files, write_case
from storage.exports.nifti import nifti_files
from storage.exports.released_nodule import open_released_nodule
from storage.layout import case_prefix
from storage.recipe import SourceSettings
from storage.records import FileEntry, Member
from storage.releases.reader import ReleaseReader
from storage.releases.release import Draft, open_release, publish_release
from storage.releases.torch_dataset import CROP_ZYX, ReleaseDataset
from storage.sources.registry import SourceSpec, open_source
from storage.store import Store, open_store

METHOD = "cf"
VERSION = "0.1.0"
TURNS = 9
PIECES = 8
"""Nodules whose CT ends near the lesion; those that come as whole scans are added."""
WANTED = {".nii.gz": 10, ".npz": 3, ".npz, not compressed": 3}
Box = tuple[slice, slice, slice]
Read = Callable[[str, Box], object]


def main() -> None:
    command_line(__doc__).parse_args()
    one_thread()
    with TemporaryDirectory() as scratch:
        store = open_store(f"{scratch}/store", create=True)
        release(store)
        reader = ReleaseReader(open_release(store.url, VERSION))
        readers = {"release": from_release(reader), **as_files(reader, Path(scratch))}
        seconds = take_turns(reader, readers)
        dataset = ReleaseDataset(open_release(store.url, VERSION), "train", seed=1)
        begin = time.process_time()
        for turn in range(TURNS):
            dataset.set_epoch(turn)
            for index in range(len(dataset)):
                dataset[index]
        items = TURNS * len(dataset) / (time.process_time() - begin)
        size = sizes(store, reader, Path(scratch))
    ratios = {name: round(seconds[name] / seconds["release"], 2) for name in WANTED}
    rows = [
        {"format": name, "crops a second": round(1 / spent, 1),
         "times slower": ratios.get(name, 1.0), "kB a nodule": round(size[name] / 1000)}
        for name, spent in seconds.items()
    ]  # fmt: skip
    print(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    met = {name: ratios[name] >= wanted for name, wanted in WANTED.items()}
    met["bytes"] = size["release"] <= size[".nii.gz"]
    print(met, f"ReleaseDataset: {items:.1f} items a second")
    shapes = {name: list(reader.shape(name)) for name in reader.nodules()}
    save(
        "reading",
        {
            "wanted": WANTED,
            "met": met,
            "rows": rows,
            "items_a_second": round(items, 1),
            "shapes": shapes,
        },
    )


def ready() -> Iterator[Ready]:
    """Return nodules of whole scans where they are at hand, and pieces of others."""
    folder = real_folder()
    if folder is not None:
        source = open_source(SourceSpec("lidc", str(folder / "lidc_dicom")), SourceSettings())
        for nodule in source.inventory(readers=4).nodules:
            yield make_ready(
                nodule.id, source.read(nodule, padding_slices=CropSettings().padding_slices).patch
            )
    yield from nodules(PIECES)


def release(store: Store) -> None:
    members: list[Member] = []
    files: dict[str, FileEntry] = {}
    for number, nodule in enumerate(ready()):
        digest = f"{number:064}"
        solutions = estimate_alphas(nodule.image_hu, nodule.labels, spacing_mm=nodule.spacing_mm)
        alphas = {
            name: solution.alpha if solution.converged else None
            for name, solution in solutions.items()
        }
        facts = case_facts(nodule.id, digest, nodule.patch.grid, tuple(alphas))
        write_case(store, NewCase(facts, nodule.patch, nodule.labels, alphas))
        members.append(Member(nodule.id, nodule.id, digest, METHOD, "bench", True, "train", False))
        files |= read_case_files(store, nodule.id, digest)
    publish_release(store, VERSION, Draft(tuple(members), (), files, {}, {}), publisher="bench")


def from_release(reader: ReleaseReader) -> Read:
    def read(nodule_id: str, box: Box) -> object:
        start = (box[0].start, box[1].start, box[2].start)
        return [
            reader.read(nodule_id, name, start, CROP_ZYX)
            for name in ("image", "alpha", "readers", "validity")
        ]

    return read


def as_files(reader: ReleaseReader, scratch: Path) -> dict[str, Read]:
    """Write the nodules in the other formats; return what reads a box from each."""
    for nodule_id in reader.nodules():
        for name, data in nifti_files(open_released_nodule(reader.release, nodule_id)).items():
            (scratch / f"{nodule_id}.{name}").write_bytes(data)
        arrays = {
            name: reader.read(nodule_id, name) for name in ("image", "alpha", "readers", "validity")
        }
        np.savez_compressed(scratch / f"{nodule_id}.npz", allow_pickle=False, **arrays)
        np.savez(scratch / f"{nodule_id}.plain.npz", allow_pickle=False, **arrays)

    def nifti(nodule_id: str, box: Box) -> object:
        z, y, x = box
        names = ["image", "alpha", "validity", *(f"reader-{n}" for n in range(1, 5))]
        files = (scratch / f"{nodule_id}.{name}.nii.gz" for name in names)
        images = (cast(nib.Nifti1Image, nib.load(file)) for file in files)
        return [np.asarray(image.dataobj)[x, y, z].transpose() for image in images]

    def npz(suffix: str) -> Read:
        def read(nodule_id: str, box: Box) -> object:
            with np.load(scratch / f"{nodule_id}{suffix}") as arrays:
                return [arrays[name][(..., *box)] for name in arrays.files]

        return read

    return {".nii.gz": nifti, ".npz": npz(".npz"), ".npz, not compressed": npz(".plain.npz")}


def take_turns(reader: ReleaseReader, readers: dict[str, Read]) -> dict[str, float]:
    """Return the mean over nodules of the median seconds of a crop, by format."""
    draw = random.Random(1)
    spent: dict[str, dict[str, list[float]]] = {
        name: {id_: [] for id_ in reader.nodules()} for name in readers
    }
    for _ in range(TURNS):
        for nodule_id in reader.nodules():
            starts = [
                draw.randint(0, max(0, n - c))
                for n, c in zip(reader.shape(nodule_id), CROP_ZYX, strict=True)
            ]
            z, y, x = (slice(first, first + n) for first, n in zip(starts, CROP_ZYX, strict=True))
            for name, read in readers.items():
                begin = time.process_time()
                read(nodule_id, (z, y, x))
                spent[name][nodule_id].append(time.process_time() - begin)
    return {
        name: float(np.mean([np.median(s) for s in by_nodule.values()]))
        for name, by_nodule in spent.items()
    }


def sizes(store: Store, reader: ReleaseReader, scratch: Path) -> dict[str, float]:
    """Return the mean bytes of a nodule's four things, by format."""
    found: dict[str, list[int]] = {
        "release": [],
        ".nii.gz": [],
        ".npz": [],
        ".npz, not compressed": [],
    }
    for nodule_id in reader.nodules():
        digest = reader.member(nodule_id).digest
        slot = reader.facts(nodule_id).methods.index(METHOD)
        prefix = case_prefix(nodule_id, digest)
        parts = (
            f"{prefix}/image/",
            f"{prefix}/validity/",
            f"{prefix}/labels/readers/",
            f"{prefix}/alpha/c/{slot}/",
        )
        files = read_case_files(store, nodule_id, digest)
        found["release"].append(
            sum(entry.size_bytes for key, entry in files.items() if key.startswith(parts))
        )
        nifti = (
            p
            for p in scratch.glob(f"{nodule_id}.*.nii.gz")
            if "trimap" not in p.name and "known" not in p.name
        )
        found[".nii.gz"].append(sum(path.stat().st_size for path in nifti))
        found[".npz"].append((scratch / f"{nodule_id}.npz").stat().st_size)
        found[".npz, not compressed"].append((scratch / f"{nodule_id}.plain.npz").stat().st_size)
    return {name: float(np.mean(counts)) for name, counts in found.items()}


if __name__ == "__main__":
    main()
