"""Train, validation and test by patient, for ever: a patient's side depends on nothing but its id and the seed."""

import hashlib

from storage.recipe import ReleaseSettings


def split_of(patient_id: str, release: ReleaseSettings) -> str:
    """Give a patient's side: ``train``, ``validation`` or ``test``.

    The id is hashed to a number in 0..1, so that patients who come later move nobody. Shares hold on average; a small
    data set may lack a side.
    """
    digest = hashlib.sha256(f"{release.split_seed}:{patient_id}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < release.train:
        return "train"
    return "validation" if place < release.train + release.validation else "test"


def repartitioned(release: ReleaseSettings, partition: int) -> ReleaseSettings:
    """Give the shares with another seed: partition 0 is a release's own, the others serve repeated experiments."""
    return release.model_copy(update={"split_seed": release.split_seed + partition})
