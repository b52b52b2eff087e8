"""CT series: the slices of one image set, ordered along their common normal.

Slices are ordered by ImagePositionPatient. The distance of slices comes from their positions, never
from SliceThickness: the two differ in a third of LIDC-IDRI's scans. Where images have one position,
`storage.sources.image_sets` says which of them belong to the series.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Vector
from storage.sources.dicom_headers import SliceHeader, folders_with_files, index_file, index_folder
from storage.sources.image_sets import choose_images

PARALLEL_COSINE = 0.5
"""Slices whose normals have a smaller cosine are of another plane than the series, as the
localizers that some scanners put into it."""


@dataclass(frozen=True, slots=True)
class Series:
    """The slices of one CT series, ordered along `normal`, one per position."""

    uid: str
    study_uid: str
    normal: Vector
    slices: tuple[SliceHeader, ...]
    duplicates: tuple[SliceHeader, ...]
    """Slices left out because another one has their position and their pixels."""
    image_set: str
    """Which of several image sets the slices are; empty where the series is one set."""
    ambiguous_positions: int
    """Positions with several different images that nothing tells apart."""
    folders: tuple[Path, ...]
    """Of all its images, also of those that are left out: together they decide which are."""
    ignored: Mapping[str, str]
    """File that is no slice of the image set, in the series' own folders, and why; named when
    slices turn out to be missing."""

    @property
    def synthetic(self) -> bool:
        """True where any slice is simulated."""
        return any(header.synthetic for header in self.slices)

    @property
    def folder(self) -> Path:
        """The folder of the first slice."""
        return self.slices[0].path.parent

    @property
    def title(self) -> str:
        """Size and UID, for a list to choose from; its description may name the patient."""
        size = f"{len(self.slices)} slices"
        return (
            f"{size} {self.step_mm():.2f} mm apart, {self.uid}"
            if len(self.slices) > 1
            else (f"{size}, {self.uid}")
        )

    @property
    def notes(self) -> list[str]:
        """What was chosen or left out among the images of the series, in sentences."""
        notes = []
        if self.duplicates:
            notes.append(
                f"{len(self.duplicates)} duplicates with equal pixels left out of series {self.uid}"
            )
        if self.image_set:
            notes.append(f"{self.image_set} used of series {self.uid}")
        if self.ambiguous_positions:
            notes.append(
                f"different images at {self.ambiguous_positions} positions of series {self.uid}, "
                "which is refused"
            )
        return notes

    def positions_mm(self) -> NDArray[np.float64]:
        """Return the position of each slice along the normal, ascending."""
        positions: NDArray[np.float64] = np.array(
            [h.position_lps_mm for h in self.slices]
        ) @ np.asarray(self.normal)
        return positions

    def step_mm(self) -> float:
        """Return the usual distance between neighbours (the median), or NaN for a single slice."""
        return (
            float(np.median(np.diff(self.positions_mm()))) if len(self.slices) > 1 else float("nan")
        )

    def ignored_files(self) -> str:
        """Return a sentence on the ignored files, for a remedy; empty if there are none."""
        if not self.ignored:
            return ""
        named = [f"{file} ({why})" for file, why in sorted(self.ignored.items())[:3]]
        more = f" and {len(self.ignored) - 3} more" if len(self.ignored) > 3 else ""
        return f" Files passed over: {', '.join(named)}{more}."


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies in some folders."""

    series: Mapping[str, Series]
    """By SeriesInstanceUID."""
    ignored: Mapping[str, str]
    """Path of each file that is no CT slice, and why."""


def survey_file(path: Path) -> Survey:
    """Find the CT series of which one file is a part, without the other files."""
    index = index_file(path)
    own: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in index.slices:
        own[header.series_uid].append(header)
    series = {uid: _series(uid, found, {}) for uid, found in own.items()}
    return Survey(series, {str(path.parent / name): why for name, why in index.ignored.items()})


def survey_tree(root: Path) -> Survey:
    """Find the CT series in a folder and in those below it, and the other files there.

    Raises:
        OSError: A folder cannot be listed, for another reason than permission.
    """
    folders, closed = folders_with_files(root)
    survey = survey_series(folders)
    return Survey(survey.series, {**survey.ignored, **closed})


def survey_series(folders: Iterable[Path]) -> Survey:
    """Find the CT series whose slices lie directly in `folders`, and the other files there."""
    slices: dict[str, list[SliceHeader]] = defaultdict(list)
    own_ignored: dict[str, dict[str, str]] = defaultdict(dict)
    ignored: dict[str, str] = {}
    for folder in folders:
        index = index_folder(folder)
        ignored.update({str(folder / name): why for name, why in index.ignored.items()})
        for header in index.slices:
            slices[header.series_uid].append(header)
        for uid in {header.series_uid for header in index.slices}:
            own_ignored[uid].update(index.ignored)
    series = {uid: _series(uid, found, own_ignored[uid]) for uid, found in slices.items()}
    return Survey(series, ignored)


def find_series(folders: Iterable[Path]) -> Mapping[str, Series]:
    """Return the CT series whose slices lie directly in `folders`, by SeriesInstanceUID."""
    return survey_series(folders).series


def _series(uid: str, headers: list[SliceHeader], ignored: Mapping[str, str]) -> Series:
    orientation = Counter(header.orientation for header in headers).most_common(1)[0][0]
    normal = _normal(orientation)
    normals = {kind: _normal(kind) for kind in {header.orientation for header in headers}}
    cosines = [abs(float(normals[header.orientation] @ normal)) for header in headers]
    pairs = list(zip(headers, cosines, strict=True))
    of_plane = [header for header, cosine in pairs if cosine >= PARALLEL_COSINE]
    other = {
        header.path.name: "of another plane than the series"
        for header, cosine in pairs
        if cosine < PARALLEL_COSINE
    }
    chosen = choose_images(of_plane, normal)
    x, y, z = normal.tolist()
    return Series(
        uid,
        headers[0].study_uid,
        (x, y, z),
        chosen.kept,
        chosen.duplicates,
        chosen.name,
        chosen.ambiguous_positions,
        tuple(sorted({header.path.parent for header in headers})),
        {**ignored, **other, **chosen.set_aside},
    )


def _normal(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    normal = np.cross(orientation[:3], orientation[3:])
    unit: NDArray[np.float64] = normal / (np.linalg.norm(normal) or 1.0) + 0.0  # no negative zeros
    return unit
