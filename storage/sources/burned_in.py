"""What the pixels of a slice may show beside the patient's body: text, drawings."""

from pathlib import Path

from pydicom.dataset import Dataset

from matting.errors import InputError
from storage.recipe import SourceSettings

_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


def check_burned_in(path: Path, dataset: Dataset, settings: SourceSettings) -> None:
    """Raise InputError for a slice that may show text or drawings, unless the recipe allows it.

    Burned In Annotation (0028,0301) other than YES is no proof that there is none: many scanners
    do not write it.
    """
    burned_in = str(dataset.get("BurnedInAnnotation", "")).strip().upper()
    if burned_in == "YES" and not settings.allow_burned_in_annotations:
        raise _refused(path, "Burned In Annotation YES", "allow_burned_in_annotations")
    # Tags, not elements: those would be decoded
    has_overlay = any(tag.group in _OVERLAY_GROUPS for tag in dataset.keys())  # noqa: SIM118
    if has_overlay and not settings.allow_overlays:
        raise _refused(path, "an overlay", "allow_overlays")


def _refused(path: Path, got: str, setting: str) -> InputError:
    return InputError(
        "a slice may show what identifies a patient",
        got=f"{got} in {path}",
        expected="pixels of the body only",
        remedy=f"Look at the slices; where they are fit for publication, set `source.{setting}` in "
        "the recipe.",
    )
