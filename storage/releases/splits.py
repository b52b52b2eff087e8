"""Train, validation and test split by patient, from its id and the seed alone."""

import hashlib

from storage.recipe import ReleaseSettings

SPLITS = ("train", "validation", "test")


def assign_split(patient_id: str, settings: ReleaseSettings) -> str:
    """Return a patient's split: ``train``, ``validation`` or ``test``.

    The id is hashed to a number in 0..1, so that patients who are added later move nobody. Shares
    hold on average; a small data set may lack a split.
    """
    digest = hashlib.sha256(f"{settings.split_seed}:{patient_id}".encode()).digest()
    position = int.from_bytes(digest[:8]) / 2**64
    if position < settings.train:
        return "train"
    return "validation" if position < settings.train + settings.validation else "test"


def repartition(settings: ReleaseSettings, partition: int) -> ReleaseSettings:
    """Return the settings of another partition; 0 is the release's own."""
    return settings.model_copy(update={"split_seed": settings.split_seed + partition})
