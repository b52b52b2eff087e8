"""Results of the paper's experiments on a release.

They are stored beside releases, which never change.

    experiments/<version>/costs/<id>.json               cost of a network on one machine
    experiments/<version>/<recipe>/table-1.csv          errors of methods
    experiments/<version>/<recipe>/table-2.csv          the network's variants
    experiments/<version>/<recipe>/table-3.csv          their cost
    experiments/<version>/<recipe>/facts.json           what the tables were made from; written last
    experiments/<version>/<recipe>/report/…             the report, its tables, pictures and videos

Tables are means of the scores of single nodules (`storage.results.scores`); they can be removed
and made again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matting.errors import InputError
from storage.errors import NotFoundError
from storage.layout import EXPERIMENTS, is_safe_name
from storage.records import (
    Cost,
    ExperimentFacts,
    JsonObject,
    canonical_json,
    encode,
    read_record,
)
from storage.results.csv_rows import from_csv, to_csv
from storage.results.listed_files import write_listed_files
from storage.store import Store

REPORT = "report"
DIFFERENCES = "table-2-differences.csv"


@dataclass(frozen=True, slots=True)
class Averages:
    """One row of Table 1 or 2: means over test nodules, averaged over partitions.

    Metrics are raw, as `matting.measures.metrics` computes them. A deviation is the sample
    standard deviation over partitions, None for a single partition.
    """

    matte: str
    """A method, a trivial matte, or a network's label."""
    truth: str
    """As in `storage.results.scores`."""
    region: str
    """As in `storage.results.scores`."""
    partitions: str
    """Which, e.g. ``0 1 2 3``."""
    nodules: str
    """How many counted in each, e.g. ``106 98 101 110``."""
    sad: float
    sad_deviation: float | None
    mse: float
    mse_deviation: float | None
    grad: float
    grad_deviation: float | None
    conn: float
    conn_deviation: float | None
    checkpoints: str = ""
    """Digests of the networks, one for each partition; empty for methods."""
    training: str = ""
    """Of a network, how it was trained: ``as the recipe says``, or what differs."""


@dataclass(frozen=True, slots=True)
class NetworkDifference:
    """Change of a metric from another network, or a trivial matte, to a network."""

    first: str
    """The network."""
    second: str
    """What it is compared with."""
    truth: str
    region: str
    metric: str
    """sad, mse, grad or conn, raw."""
    partitions: str
    """In which both were scored, e.g. ``0 1``."""
    nodules: int
    """Pairs; a nodule that is held out in two partitions makes two."""
    patients: int
    first_mean: float
    second_mean: float
    difference: float | None
    """Of the means, as a share of the second's; None where that is 0."""
    low: float | None
    high: float | None
    """Ends of its 95 % interval, paired and by patient; None for a single patient."""


def write_network_differences(
    store: Store, version: str, recipe: str, rows: Sequence[NetworkDifference]
) -> None:
    """Store the differences between networks, replacing what was there."""
    files = {DIFFERENCES: to_csv(NetworkDifference, rows)}
    write_listed_files(store, experiment_prefix(version, recipe), files)


def read_network_differences(store: Store, version: str, recipe: str) -> list[NetworkDifference]:
    """Read the differences between networks; raises NotFoundError or CorruptionError."""
    key = f"{experiment_prefix(version, recipe)}/{DIFFERENCES}"
    return from_csv(NetworkDifference, store.get(key), key)


def write_table(
    store: Store, version: str, recipe: str, number: int, rows: Sequence[Averages] | Sequence[Cost]
) -> None:
    """Store a table, replacing what was there.

    Args:
        store: Where to.
        version: Of the release.
        recipe: Name of the recipe of the experiments.
        number: 1, 2 or 3.
        rows: `Cost` for Table 3, else `Averages`.
    """
    kind = Cost if number == 3 else Averages
    name = _table_name(number)
    write_listed_files(store, experiment_prefix(version, recipe), {name: to_csv(kind, rows)})


def read_table(store: Store, version: str, recipe: str, number: int) -> list[Averages]:
    """Read Table 1 or 2; raises NotFoundError or CorruptionError."""
    key = table_key(version, recipe, number)
    return from_csv(Averages, store.get(key), key)


def read_costs(store: Store, version: str, recipe: str) -> list[Cost]:
    """Read Table 3; empty where costs were not measured. Raises CorruptionError."""
    key = table_key(version, recipe, 3)
    try:
        return from_csv(Cost, store.get(key), key)
    except NotFoundError:
        return []


def table_key(version: str, recipe: str, number: int) -> str:
    """Return the key of a table."""
    return f"{experiment_prefix(version, recipe)}/{_table_name(number)}"


def _table_name(number: int) -> str:
    return f"table-{number}.csv"


def facts_key(version: str, recipe: str) -> str:
    """Return the key of the facts of an experiment."""
    return f"{experiment_prefix(version, recipe)}/facts.json"


def write_facts(store: Store, version: str, recipe: str, facts: ExperimentFacts) -> None:
    """Store what the tables were made from: release, recipe, code, machine."""
    store.put(facts_key(version, recipe), encode(facts, indent=1))


def read_facts(store: Store, version: str, recipe: str) -> ExperimentFacts:
    """Read what the tables were made from; raises NotFoundError or CorruptionError."""
    return read_record(store, facts_key(version, recipe), ExperimentFacts)


def write_report(store: Store, version: str, recipe: str, files: Mapping[str, bytes]) -> str:
    """Store the files of a report by relative name; returns where they are."""
    prefix = f"{experiment_prefix(version, recipe)}/{REPORT}"
    write_listed_files(store, prefix, files)
    return f"{store.url}/{prefix}"


def cost_id(content_key: JsonObject) -> str:
    """Return the id of a measurement of costs: the hash of all that determines it."""
    return hashlib.sha256(canonical_json(content_key)).hexdigest()[:16]


def write_cost(store: Store, version: str, name: str, cost: Cost) -> None:
    """Store the cost of a network under its id."""
    store.put(_cost_key(version, name), encode(cost))


def find_cost(store: Store, version: str, name: str) -> Cost | None:
    """Read the cost of a network by its id.

    None where it was not measured. Raises CorruptionError.
    """
    try:
        return read_record(store, _cost_key(version, name), Cost)
    except NotFoundError:
        return None


def experiment_prefix(version: str, recipe: str) -> str:
    """Return the prefix of the experiments on a release with a recipe.

    Raises:
        InputError: The recipe's name cannot be part of a key, or is used for something else there.
    """
    if not is_safe_name(recipe) or recipe in {"costs", "diagnosis"}:
        raise InputError(
            "results cannot be stored under the recipe's name",
            got=recipe,
            expected="letters, digits, dots, dashes and underscores, and not `costs` or "
            "`diagnosis`",
            remedy="Give the recipe another `name`.",
        )
    return f"{EXPERIMENTS}/{version}/{recipe}"


def _cost_key(version: str, name: str) -> str:
    return f"{EXPERIMENTS}/{version}/costs/{name}.json"
