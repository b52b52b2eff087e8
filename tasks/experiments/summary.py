"""Tables 1 and 2 from the stored scores of a release, and the facts of the experiments."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from matting.learned.devices import pick_device
from matting.parameters import MACHINE_SETTINGS, DiagnosisSettings, TrainingSettings
from storage.recipe import EvaluationSettings, Recipe
from storage.records import ExperimentFacts
from storage.releases.reader import ReleaseReader
from storage.releases.release import Release
from storage.results.checkpoints import network_label
from storage.results.csv_rows import to_csv
from storage.results.experiments import Averages, experiment_prefix
from storage.results.scores import METHOD_SCORES, Score, list_scored_nodules, read_nodule_scores
from storage.store import Store
from tasks.environment import code_facts
from tasks.experiments.cost import device_name
from tasks.experiments.networks import (
    AS_ASKED,
    Network,
    find_networks,
    method_scores,
    network_scores,
    open_partitions,
    table_2_variants,
)
from tasks.experiments.tables import average_scores

IGNORED_SETTINGS = (*MACHINE_SETTINGS, "seed")
"""Training settings whose difference from the paper's is not reported."""

STATED = frozenset(
    {
        *(f"training.{name}" for name in ("crop_zyx", "symmetries", "batch", "epochs", "rate")),
        *(f"training.{name}" for name in ("ghost_rate", "weight_decay", "warm_up_epochs")),
        *(f"training.{name}" for name in ("alpha_weight", "gradient_weight")),
        *(
            f"evaluation.{name}"
            for name in ("partitions", "trained_partitions", "variants", "test_nodules")
        ),
        *(f"diagnosis.{name}" for name in ("backbones", "seeds")),
    }
)
"""Settings whose value the paper states (sections 6.1 to 6.3); our defaults have that value."""


def check_experiments(release: Release, recipe: Recipe, device: str) -> None:
    """Raise InputError for no test nodules, an invalid recipe name or a missing device."""
    open_partitions(release, recipe.evaluation.partitions)
    experiment_prefix(release.version, recipe.name)
    pick_device(device)


def tabulate(release: Release, recipe: Recipe) -> dict[int, list[Averages]]:
    """Return the rows of Tables 1 and 2, averaged over the stored scores of nodules."""
    store = release.store
    readers = open_partitions(release, recipe.evaluation.partitions)
    networks = find_networks(release, recipe)
    rows = {network.label: _network_rows(store, network, readers, recipe) for network in networks}
    methods = average_scores(method_scores(store, readers))
    return {
        1: methods + [row for found in rows.values() for row in found],
        2: list(_variants(recipe, networks, rows)),
    }


def differences(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Return the settings that differ from our defaults: name, the recipe's value, the paper's.

    The paper's is empty where the paper does not state it.
    """
    sections = (
        ("training", asdict(recipe.training), asdict(TrainingSettings())),
        ("evaluation", recipe.evaluation.model_dump(), EvaluationSettings().model_dump()),
        ("diagnosis", asdict(recipe.diagnosis), asdict(DiagnosisSettings())),
    )
    return [
        (
            f"{section}.{name}",
            _setting_text(ours[name]),
            _setting_text(default[name]) if f"{section}.{name}" in STATED else "",
        )
        for section, ours, default in sections
        for name in ours
        if name not in IGNORED_SETTINGS and ours[name] != default[name]
    ]


def _setting_text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "all" if value is None else str(value)


def experiment_facts(
    release: Release, recipe: Recipe, device: str, seconds: Mapping[str, float]
) -> ExperimentFacts:
    """Return release, recipe, code and device of the experiments.

    Args:
        release: The release.
        recipe: The recipe of the experiments.
        device: The device that computes.
        seconds: Duration of each step of this run.
    """
    members = release.members.values()
    return ExperimentFacts(
        release=release.version,
        manifest_sha256=release.manifest_sha256,
        release_recipe=str(release.manifest.recipe.get("name", "")),
        nodules=len(members),
        patients=len({member.patient_id for member in members}),
        splits=dict(sorted(Counter(member.split for member in members).items())),
        synthetic=sum(member.synthetic for member in members),
        recipe=recipe.model_dump(mode="json"),
        differences=tuple(differences(recipe)),
        code=code_facts(),
        device=device_name(device),
        seconds=dict(seconds),
    )


def best_network(release: Release, recipe: Recipe, region: str = "near") -> tuple[str, str] | None:
    """Return label and checkpoint of the network of partition 0 with the least SAD, if any.

    Args:
        release: The release.
        recipe: The recipe of the experiments.
        region: Region of the SAD: whole, near or unknown.
    """
    rows = [
        row
        for row in tabulate(release, recipe)[1]
        if row.checkpoints and row.partitions.startswith("0")
    ]
    rows = [row for row in rows if (row.truth, row.region) == ("released", region)]
    if not rows:
        return None
    best = min(rows, key=lambda row: row.sad)
    return best.matte, best.checkpoints.split()[0]


def nodule_tables(release: Release, recipe: Recipe) -> dict[str, bytes]:
    """Return the scores of the nodules behind the tables as CSV files, by file name."""
    found = {}
    store = release.store
    version = release.version
    reader = ReleaseReader(release)
    if set(reader.nodules()) <= list_scored_nodules(store, version, METHOD_SCORES):
        found["nodules/methods.csv"] = to_csv(
            Score, read_nodule_scores(store, version, METHOD_SCORES, reader.nodules())
        )
    for network in find_networks(release, recipe):
        for partition, digest in network.digests.items():
            nodules = sorted(list_scored_nodules(store, version, digest))
            if not nodules:
                continue
            title = f"{network.label} partition {partition}"
            name = title.replace("(", "").replace(")", "").replace(" ", "-")
            found[f"nodules/{name}.csv"] = to_csv(
                Score, read_nodule_scores(store, version, digest, nodules)
            )
    return found


def _network_rows(
    store: Store, network: Network, readers: dict[int, ReleaseReader], recipe: Recipe
) -> list[Averages]:
    scores = network_scores(store, network, readers, recipe.evaluation.test_nodules)
    digests = " ".join(network.digests[partition] for partition in scores)
    return average_scores(scores, checkpoints=digests, training=network.training)


def _variants(
    recipe: Recipe, networks: list[Network], rows: dict[str, list[Averages]]
) -> list[Averages]:
    """Return the rows of Table 2 in the paper's order; untrained variants have none."""
    asked = [network_label(*pair) for pair in table_2_variants(recipe)]
    others = [network.label for network in networks if network.training != AS_ASKED]
    return [row for label in asked + others for row in rows.get(label, ())]
