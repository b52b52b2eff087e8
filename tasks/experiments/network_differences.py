"""Paired differences between networks, and between networks and mattes that need no method."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from matting.measures.probability import relative_difference
from storage.recipe import Recipe
from storage.releases.release import Release
from storage.results.experiments import NetworkDifference
from storage.results.scores import METRIC_NAMES, Score
from tasks.experiments.networks import (
    find_networks,
    method_scores,
    network_scores,
    open_partitions,
)
from tasks.scoring.mattes import HU_LINEAR, READERS_MEAN, TRIMAP_PRIOR

TRIVIAL = (READERS_MEAN, HU_LINEAR, TRIMAP_PRIOR)

Place = tuple[int, str]
"""A nodule in the test split of a partition."""
Errors = dict[tuple[str, str], dict[Place, Score]]
"""Scores of one matte by (truth, region)."""


def network_differences(release: Release, recipe: Recipe) -> list[NetworkDifference]:
    """Compare each network with the networks after it and with the trivial mattes.

    Both are scored on the same held-out nodules of the same partitions. Patients are drawn for the
    intervals; a patient who is held out in several partitions is drawn with all of them.

    Args:
        release: The release; its store has the scores.
        recipe: The recipe of the experiments.
    """
    store = release.store
    readers = open_partitions(release, recipe.evaluation.partitions)
    patients = {name: member.patient_id for name, member in release.members.items()}
    methods = method_scores(store, readers)
    trivial = {name: _by_region(methods, name) for name in TRIVIAL}
    networks = {
        network.label: _by_region(
            network_scores(store, network, readers, recipe.evaluation.test_nodules), network.label
        )
        for network in find_networks(release, recipe)
    }
    labels, errors = list(networks), {**trivial, **networks}
    return [
        row
        for place, label in enumerate(labels)
        for other in (*labels[place + 1 :], *TRIVIAL)
        for row in _compare((label, errors[label]), (other, errors[other]), patients)
    ]


def _by_region(scores: Mapping[int, Sequence[Score]], matte: str) -> Errors:
    found: Errors = {}
    for partition, own in scores.items():
        for score in own:
            if score.matte == matte:
                places = found.setdefault((score.truth, score.region), {})
                places[partition, score.nodule] = score
    return found


def _compare(
    first: tuple[str, Errors], second: tuple[str, Errors], patients: Mapping[str, str]
) -> Iterator[NetworkDifference]:
    ours, theirs = first[1], second[1]
    for (truth, region), metric in product(ours, METRIC_NAMES):
        own, other = ours[truth, region], theirs.get((truth, region), {})
        places = sorted(own.keys() & other.keys())
        if not places:
            continue
        pairs = np.array(
            [[getattr(one[place], metric) for one in (own, other)] for place in places], float
        )
        owners = [patients[nodule] for _, nodule in places]
        difference = low = high = None
        if pairs[:, 1].any():
            difference, low, high = relative_difference(pairs[:, 0], pairs[:, 1], owners)
        if len(set(owners)) == 1:
            low = high = None
        yield NetworkDifference(
            first=first[0],
            second=second[0],
            truth=truth,
            region=region,
            metric=metric,
            partitions=" ".join(str(n) for n in sorted({partition for partition, _ in places})),
            nodules=len(places),
            patients=len(set(owners)),
            first_mean=float(pairs[:, 0].mean()),
            second_mean=float(pairs[:, 1].mean()),
            difference=difference,
            low=low,
            high=high,
        )
