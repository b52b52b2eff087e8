"""One released nodule as the export formats take it: the case, the chosen matte and what must be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matting.geometry.grid import Grid
from storage.cases.case import Case, read_case
from storage.store import Store

STAND_IN_NOTE = "stand-in data: simulated CT, not a patient's"
"""Stands in every file of a simulated scan that has room for a note."""


@dataclass(frozen=True, slots=True)
class ReleasedNodule:
    """A nodule of a release, opened for reading."""

    store: Store
    case: Case
    version: str
    method: str
    """The matte that is the release's."""
    split: str
    stand_in: bool
    published_at: str
    """When its release was, ISO 8601."""
    dicom: Path | None = None
    """The folder of the scans, for formats that refer to them."""

    @property
    def grid(self) -> Grid:
        """Where it lies in the patient."""
        return self.case.grid

    @property
    def note(self) -> str:
        """What every file says of itself."""
        made = f"Halosign {self.version} {self.case.nodule_id}"
        return f"{made}; {STAND_IN_NOTE}" if self.stand_in else made

    @property
    def matte(self) -> NDArray[np.float32]:
        """The chosen matte (z, y, x) in 0..1."""
        return self.case.alpha(self.method)

    def volumes(self) -> dict[str, NDArray[Any]]:
        """Give image, matte, trimap, validity and, where the CT is simulated, the known alpha; all (z, y, x)."""
        found = {
            "image": self.case.array("image"),
            "matte": self.matte,
            "trimap": self.case.array("labels/trimap/0"),
            "validity": self.case.array("validity"),
        }
        return found | (
            {"known_alpha": self.case.array("known_alpha")}
            if "known_alpha" in self.case.group
            else {}
        )

    def readers(self) -> NDArray[np.uint8]:
        """Give each reader's mask (r, z, y, x)."""
        return self.case.array("labels/readers/0")

    def summary(self) -> dict[str, Any]:
        """Give what a file of an export should say of the nodule, as JSON."""
        facts = self.case.facts
        return {
            "release": self.version,
            "nodule": self.case.nodule_id,
            "digest": self.case.digest,
            "method": self.method,
            "split": self.split,
            "stand_in": self.stand_in,
            "note": self.note,
            "geometry": facts["geometry"],
        }


def open_released_nodule(
    store: Store, manifest: Mapping[str, Any], nodule_id: str, dicom: Path | None = None
) -> ReleasedNodule:
    """Open one nodule of a release."""
    member = manifest["nodules"][nodule_id]
    case = read_case(store, nodule_id, member["digest"])
    return ReleasedNodule(
        store=store,
        case=case,
        version=manifest["version"],
        method=member["method"],
        split=member["split"],
        stand_in=member["stand_in"],
        published_at=manifest["published_at"],
        dicom=dicom,
    )
