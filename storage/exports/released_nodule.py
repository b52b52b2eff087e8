"""One nodule of a release, as the export formats need it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from storage.cases.case import Case, read_case
from storage.records import JsonObject, Member, to_json
from storage.releases.release import Release
from storage.store import Store

SYNTHETIC_NOTE = "synthetic data: simulated CT, not a patient's"
"""Written into every file of a simulated scan that has room for a note."""


@dataclass(frozen=True, slots=True)
class ReleasedNodule:
    """A nodule of a release, opened for reading."""

    store: Store
    case: Case
    member: Member
    version: str
    published_at: str
    """When the release was published, ISO 8601."""
    dicom: Path | None = None
    """The folder of the scans, for formats that refer to them."""

    @property
    def grid(self) -> Grid:
        """Its lattice in patient space."""
        return self.case.grid

    @property
    def note(self) -> str:
        """What every file states about its content."""
        made = f"Halosign {self.version} {self.case.nodule_id}"
        return f"{made}; {SYNTHETIC_NOTE}" if self.member.synthetic else made

    @property
    def matte(self) -> NDArray[np.float32]:
        """The released matte (z, y, x) in 0..1."""
        return self.case.alpha(self.member.method)

    def volumes(self) -> dict[str, NDArray[Any]]:
        """Read image, matte, trimap, validity and, where the CT is simulated, the known alpha.

        All (z, y, x).
        """
        volumes = {
            "image": self.case.array("image"),
            "matte": self.matte,
            "trimap": self.case.array("labels/trimap/0"),
            "validity": self.case.array("validity"),
        }
        if "known_alpha" in self.case.group:
            volumes["known_alpha"] = self.case.array("known_alpha")
        return volumes

    def readers(self) -> NDArray[np.uint8]:
        """Read each reader's mask (r, z, y, x)."""
        return self.case.array("labels/readers/0")

    def summary(self) -> JsonObject:
        """Return what a file of an export should state about the nodule."""
        return {
            "release": self.version,
            "nodule": self.case.nodule_id,
            "digest": self.case.digest,
            "method": self.member.method,
            "form": self.case.facts.form_name,
            "split": self.member.split,
            "stand_in": self.member.synthetic,
            "note": self.note,
            "geometry": to_json(self.grid),
        }


def open_released_nodule(
    release: Release, nodule_id: str, dicom: Path | None = None
) -> ReleasedNodule:
    """Open one nodule of a release.

    Args:
        release: In a store.
        nodule_id: One of its members.
        dicom: The folder of the scans, for formats that refer to them.
    """
    member = release.members[nodule_id]
    return ReleasedNodule(
        store=release.store,
        case=read_case(release.store, nodule_id, member.digest),
        member=member,
        version=release.version,
        published_at=release.manifest.published_at,
        dicom=dicom,
    )
