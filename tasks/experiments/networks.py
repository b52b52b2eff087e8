"""The networks of the experiments: which there are to train, which are trained, which nodules they are measured on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from matting.errors import InputError
from storage.recipe import Recipe
from storage.records import CheckpointConfig, canonical_json
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import find_checkpoint, network_label, read_checkpoint_configs
from storage.results.scores import METHOD_SCORES, Score, list_scored_nodules, read_nodule_scores
from storage.store import Store
from tasks.experiments.tables import measured_nodules
from tasks.learning.train import TrainingJob, training_id_of

AS_ASKED = "as the recipe says"


@dataclass(frozen=True, slots=True)
class Network:
    """One training, repeated on partitions."""

    label: str
    training: str
    """`AS_ASKED`, or how it was trained instead."""
    digests: dict[int, str]
    """Checkpoints by partition."""

    def nodules(self, reader: ReleaseReader, at_most: int | None) -> tuple[str, ...]:
        """Give the nodules that it is measured on: fewer than all only where the recipe that trained it says so."""
        return measured_nodules(reader, at_most if self.training == AS_ASKED else None)


def open_partitions(release: Release, number: int) -> dict[int, ReleaseReader]:
    """Return a reader for each partition of a release that has nodules to measure on.

    Raises:
        InputError: None has.
    """
    readers = {k: ReleaseReader(release, k) for k in range(number)}
    found = {k: reader for k, reader in readers.items() if "test" in reader.splits.values()}
    if not found:
        raise InputError(
            f"release {release.version} has nothing to measure on",
            got=f"no nodule in the test split of {number} partitions",
            expected="one or more",
            remedy="Publish more patients, or choose other shares or another split_seed in the recipe's `release`.",
        )
    return found


def table_2_variants(recipe: Recipe) -> list[tuple[str, bool]]:
    """Name the variants of Table 2, each with auxiliary masks and without."""
    return list(product(recipe.evaluation.variants, (True, False)))


def equivalent_network(variant: str, auxiliary: bool) -> tuple[str, bool]:
    """Give the one that stands for a network: without masks, 3dmm and 3dmm-m are the same."""
    return ("3dmm", False) if (variant, auxiliary) == ("3dmm-m", False) else (variant, auxiliary)


def trainings(release: Release, recipe: Recipe, device: str) -> Iterator[TrainingJob]:
    """Give the trainings of Table 2, one partition after the other; one without a train split is left out."""
    number = min(recipe.evaluation.trained_partitions, recipe.evaluation.partitions)
    for partition, reader in open_partitions(release, number).items():
        if "train" in reader.splits.values():
            for variant, auxiliary in dict.fromkeys(
                equivalent_network(*pair) for pair in table_2_variants(recipe)
            ):
                yield TrainingJob(release, variant, auxiliary, recipe.training, device, partition)


def find_networks(release: Release, recipe: Recipe) -> list[Network]:
    """Find what was trained on a release: first what the recipe asks for, then what was trained otherwise."""
    asked: dict[tuple[str, bool], dict[int, str]] = {}
    for order in trainings(release, recipe, "cpu"):
        digest = find_checkpoint(release.store, training_id_of(order))
        if digest:
            asked.setdefault((order.variant, order.auxiliary), {})[order.partition] = digest
    known = {digest for digests in asked.values() for digest in digests.values()}
    found = [Network(network_label(*pair), AS_ASKED, digests) for pair, digests in asked.items()]
    others: dict[bytes, Network] = {}
    for config in read_checkpoint_configs(release.store, release.version):
        if config.digest not in known:
            key = canonical_json({**config.content_key, "partition": None})
            label = f"{network_label(config.variant, config.auxiliary)} {config.digest[:6]}"
            network = others.setdefault(key, Network(label, _described(config), {}))
            network.digests[config.partition] = config.digest
    return found + sorted(others.values(), key=lambda network: network.label)


def not_trained(release: Release, recipe: Recipe) -> list[str]:
    """Name the networks of Table 2 that are still to be trained, with their partition."""
    return [
        f"{network_label(order.variant, order.auxiliary)} on partition {order.partition}"
        for order in trainings(release, recipe, "cpu")
        if find_checkpoint(release.store, training_id_of(order)) is None
    ]


def network_scores(
    store: Store, network: Network, readers: dict[int, ReleaseReader], at_most: int | None
) -> dict[int, list[Score]]:
    """Read a network's scores on the nodules that count, by partition; one that was not measured there is left out."""
    scores = {}
    for partition, digest in sorted(network.digests.items()):
        reader = readers.get(partition)
        nodules = network.nodules(reader, at_most) if reader else ()
        if reader and set(nodules) <= list_scored_nodules(store, reader.version, digest):
            own = read_nodule_scores(store, reader.version, digest, nodules)
            scores[partition] = [replace(score, matte=network.label) for score in own]
    return scores


def method_scores(store: Store, readers: dict[int, ReleaseReader]) -> dict[int, list[Score]]:
    """Read the scores of the methods and the trivial mattes on every partition's test split."""
    return {
        k: read_nodule_scores(store, reader.version, METHOD_SCORES, reader.nodules("test"))
        for k, reader in readers.items()
    }


def _described(config: CheckpointConfig) -> str:
    training = config.training
    size = "x".join(map(str, training.crop_zyx))
    return (
        f"{training.epochs} epochs, batch {training.batch}, crops {size}, focus {training.focus:g}"
    )
