"""The same nodule in every form in which people store its readers: one matte at the end."""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.kinds import write_files, write_table
from tests.kinds_dicom import KINDS as DICOM
from tests.kinds_files import KINDS as FILES
from tests.kinds_readers import KINDS as READERS

WAYS = [
    "48 NRRD in two files",
    "49 labels of several nodules",
    "52 layers of 3D Slicer, cropped",
    "54 a stack of readers",
    "55 HU + 1024, converted",
    "59 masks in ASL order",
    "68 SEG with a segment a reader",
    "68 RTSTRUCT",
    "05 zip archive",
    "46 enhanced, file",
]


def _beside_masks(make):
    """Write masks as files, and the CT as DICOM."""

    def write(folder: Path) -> Path:
        write_files(folder)
        ct = make(folder / "dicom")
        return write_table(folder, image=str(ct.relative_to(folder)))

    return write


def write_ways(root: Path) -> Path:
    """Write the nodule in each way, and one table of all."""
    makers = {name: make for name, make, words in [*FILES, *READERS] if not words}
    makers |= {name: _beside_masks(make) for name, make, words in DICOM if not words}
    rows: list[dict[str, str]] = []
    for number, name in enumerate(["plain", *WAYS]):
        folder = f"w{number}"
        table = (write_files if name == "plain" else makers[name])(root / folder)
        with table.open(newline="") as stream:
            (row,) = csv.DictReader(stream)
        readers = ";".join(f"{folder}/{entry}" for entry in row["readers"].split(";"))
        row |= {"nodule": folder, "patient": folder, "image": f"{folder}/{row['image']}"}
        rows.append({"hu_slope": "", "hu_offset": "", **row, "readers": readers})
    with (root / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return root / "table.csv"


@pytest.mark.slow
def test_every_way_in_ends_in_the_matte_of_plain_masks(
    halosign, scheduler, recipe, tmp_path
) -> None:
    table, store = write_ways(tmp_path / "ways"), tmp_path / "store"
    curated = halosign(
        "curate", "--files", table, "--store", store, "--recipe", recipe, "--scheduler", scheduler
    )
    assert curated.returncode == 0, curated.stdout + curated.stderr
    assert halosign("review", "auto", "--store", store).returncode == 0
    published = halosign("release", "publish", "0.1.0", "--store", store, "--recipe", recipe)
    assert published.returncode == 0, published.stderr
    out = tmp_path / "export"
    exported = halosign(
        "release", "export", "0.1.0", "--store", store, "--format", "nifti", "--to", out
    )
    assert exported.returncode == 0, exported.stderr

    def measure(number: int) -> tuple[float, np.ndarray]:
        image = sitk.ReadImage(str(next((out / f"w{number}").glob("*alpha*.nii.gz"))))
        alpha = sitk.GetArrayFromImage(image)
        weights = alpha / alpha.sum()
        index = np.array([(axis * weights).sum() for axis in np.indices(alpha.shape)])[::-1]
        place = image.TransformContinuousIndexToPhysicalPoint(index.tolist())
        return float(alpha.sum()) * np.prod(image.GetSpacing()), np.array(place)

    volume_mm3, centroid_mm = measure(0)
    for number, name in enumerate(WAYS, 1):
        volume, centroid = measure(number)
        assert volume == pytest.approx(volume_mm3, rel=1e-3), name
        assert centroid == pytest.approx(centroid_mm, abs=0.01), name
