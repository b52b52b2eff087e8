"""The networks of the experiments: those to train, those trained, and their scores."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from matting.errors import InputError
from matting.parameters import Auxiliary, Variant
from storage.recipe import Recipe
from storage.records import CheckpointConfig, canonical_json
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import find_checkpoint, network_label, read_checkpoint_configs
from storage.results.scores import METHOD_SCORES, Score, list_scored_nodules, read_nodule_scores
from storage.store import Store
from tasks.experiments.tables import measured_nodules
from tasks.learning.train import LEARNING_VERSION, TrainingJob, training_id_of

AS_ASKED = "as the recipe says"
"""Stored in tables for networks trained with the recipe's settings."""
TABLE_2_MASKS: tuple[Auxiliary, ...] = ("told", "untold")
"""The paper removes the masks "from the matting branch" and prints other figures for 3dmm than for
3dmm-m, which without branches would be one network: its daggers are read as untold."""


@dataclass(frozen=True, slots=True)
class Network:
    """A training that was repeated on several partitions."""

    label: str
    training: str
    """`AS_ASKED`, or the settings it was trained with instead."""
    digests: dict[int, str]
    """Checkpoints by partition."""

    def nodules(self, reader: ReleaseReader, at_most: int | None) -> tuple[str, ...]:
        """Return the test nodules that it is scored on.

        The recipe's limit applies only to networks that were trained as the recipe says.
        """
        return measured_nodules(reader, at_most if self.training == AS_ASKED else None)


def open_partitions(release: Release, number: int) -> dict[int, ReleaseReader]:
    """Return a reader for each partition of a release that has nodules to measure on.

    Raises:
        InputError: There is none.
    """
    readers = {k: ReleaseReader(release, k) for k in range(number)}
    found = {k: reader for k, reader in readers.items() if "test" in reader.splits.values()}
    if not found:
        raise InputError(
            f"release {release.version} has nothing to measure on",
            got=f"no nodule in the test split of {number} partitions",
            expected="one or more",
            remedy="Publish more patients, or change the shares or split_seed of `release` in the "
            "recipe.",
        )
    return found


def table_2_variants(recipe: Recipe) -> list[tuple[Variant, Auxiliary]]:
    """Return the variants of Table 2, each with a matting head told of the masks and not."""
    return list(product(recipe.evaluation.variants, TABLE_2_MASKS))


def trainings(release: Release, recipe: Recipe, device: str) -> Iterator[TrainingJob]:
    """Yield the trainings of Table 2, partition by partition.

    Partitions without a training split are excluded.
    """
    number = min(recipe.evaluation.trained_partitions, recipe.evaluation.partitions)
    for partition, reader in open_partitions(release, number).items():
        if "train" in reader.splits.values():
            for variant, auxiliary in table_2_variants(recipe):
                yield TrainingJob(release, variant, auxiliary, recipe.training, device, partition)


def missing_trainings(release: Release, recipe: Recipe, device: str) -> Iterator[TrainingJob]:
    """Yield the trainings of Table 2 that have not ended yet."""
    for job in trainings(release, recipe, device):
        if find_checkpoint(release.store, training_id_of(job)) is None:
            yield job


def find_networks(release: Release, recipe: Recipe) -> list[Network]:
    """Return the networks trained on a release: as the recipe says, then with other settings."""
    as_asked: dict[tuple[str, Auxiliary], dict[int, str]] = {}
    for job in trainings(release, recipe, "cpu"):
        digest = find_checkpoint(release.store, training_id_of(job))
        if digest:
            as_asked.setdefault((job.variant, job.auxiliary), {})[job.partition] = digest
    known = {digest for digests in as_asked.values() for digest in digests.values()}
    found = [Network(network_label(*pair), AS_ASKED, digests) for pair, digests in as_asked.items()]
    others: dict[bytes, Network] = {}
    for config in read_checkpoint_configs(release.store, release.version):
        if config.digest not in known:
            key = canonical_json({**config.content_key, "partition": None})
            label = f"{network_label(config.variant, config.auxiliary)} {config.digest[:6]}"
            network = others.setdefault(key, Network(label, _describe_settings(config), {}))
            network.digests[config.partition] = config.digest
    return found + sorted(others.values(), key=lambda network: network.label)


def not_trained(release: Release, recipe: Recipe) -> list[str]:
    """Return the labels of the networks of Table 2 that are not trained, with their partitions."""
    missing: dict[str, list[str]] = {}
    for job in missing_trainings(release, recipe, "cpu"):
        label = network_label(job.variant, job.auxiliary)
        missing.setdefault(label, []).append(str(job.partition))
    return [f"{label} on partition {' '.join(places)}" for label, places in missing.items()]


def network_scores(
    store: Store, network: Network, readers: dict[int, ReleaseReader], at_most: int | None
) -> dict[int, list[Score]]:
    """Read a network's scores on its test nodules.

    Args:
        store: The store.
        network: The network.
        readers: Readers of the release by partition.
        at_most: The recipe's limit of test nodules; None for all.

    Returns:
        Scores by partition; partitions that were not scored completely are excluded.
    """
    scores = {}
    for partition, digest in sorted(network.digests.items()):
        reader = readers.get(partition)
        nodules = network.nodules(reader, at_most) if reader else ()
        if reader and set(nodules) <= list_scored_nodules(store, reader.version, digest):
            own = read_nodule_scores(store, reader.version, digest, nodules)
            scores[partition] = [replace(score, matte=network.label) for score in own]
    return scores


def method_scores(store: Store, readers: dict[int, ReleaseReader]) -> dict[int, list[Score]]:
    """Read the scores of methods and trivial mattes on the test split of every partition.

    A partition that was not scored as a whole is left out.
    """
    return {
        k: read_nodule_scores(store, reader.version, METHOD_SCORES, reader.nodules("test"))
        for k, reader in readers.items()
        if list_scored_nodules(store, reader.version, METHOD_SCORES) >= set(reader.nodules("test"))
    }


def _describe_settings(config: CheckpointConfig) -> str:
    training = config.training
    size = "x".join(map(str, training.crop_zyx))
    points = f", {config.negatives} points without a nodule" if config.negatives else ""
    is_earlier = config.content_key.get("learning") != LEARNING_VERSION
    return (
        f"{training.epochs} epochs, batch {training.batch}, crops {size}, "
        f"focus {training.focus:g}{points}{', by an earlier version' * is_earlier}"
    )
