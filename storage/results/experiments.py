"""Results of the paper's experiments on a release. They lie beside releases, which never change.

    experiments/<version>/costs/<id>.json               what one network costs on one machine; measured once
    experiments/<version>/<recipe>/table-1.csv          mattes against the released (and the known) ones
    experiments/<version>/<recipe>/table-2.csv          the network's variants
    experiments/<version>/<recipe>/table-3.csv          what they cost
    experiments/<version>/<recipe>/facts.json           what all of it stands on; written last
    experiments/<version>/<recipe>/report/…             the report, its tables, pictures and videos

Tables are means of what `storage.results.scores` holds of every nodule; they can be thrown away and made again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matting.errors import InputError
from storage.errors import CorruptionError, NotFoundError
from storage.layout import EXPERIMENTS, is_safe_name
from storage.results.tabular import from_csv, to_csv
from storage.store import Store, canonical_json

REPORT = "report"


@dataclass(frozen=True, slots=True)
class Averages:
    """One row of Table 1 or 2: means over the nodules of each partition's test split, averaged over partitions.

    Figures are raw, as `matting.measures.metrics` gives them; a deviation is that of a sample, over partitions, and None where
    there is but one.
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
class Cost:
    """One row of Table 3: what a network costs on one machine."""

    variant: str
    auxiliary: bool
    parameters: int
    multiply_adds: int
    """Of one pass at 1 x 96^3."""
    latency_s: float
    """Median seconds of a pass at 1 x 96^3."""
    peak_mb: float
    """What memory such a pass adds at its peak, in megabytes."""
    crop_zyx: str
    """Another size, e.g. ``48x64x64``: that of the crops trained on."""
    crop_latency_s: float
    """Median seconds of a pass at that size."""
    passes: int
    """Of how many that is the median."""
    device: str
    """Model and number of threads."""
    torch: str


def save_table(
    store: Store, version: str, recipe: str, number: int, rows: Sequence[Averages] | Sequence[Cost]
) -> None:
    """Store a table, in place of what was there."""
    kind = Cost if number == 3 else Averages
    store.put(table_key(version, recipe, number), to_csv(kind, rows))


def read_table(store: Store, version: str, recipe: str, number: int) -> list[Averages]:
    """Read Table 1 or 2. Raises NotFoundError or CorruptionError."""
    key = table_key(version, recipe, number)
    return from_csv(Averages, store.get(key), f"{store.url}/{key}")


def read_costs(store: Store, version: str, recipe: str) -> list[Cost]:
    """Read Table 3; empty where costs were not measured. Raises CorruptionError."""
    key = table_key(version, recipe, 3)
    try:
        return from_csv(Cost, store.get(key), f"{store.url}/{key}")
    except NotFoundError:
        return []


def table_key(version: str, recipe: str, number: int) -> str:
    """Give the key of a table."""
    return f"{experiment_prefix(version, recipe)}/table-{number}.csv"


def save_facts(store: Store, version: str, recipe: str, facts: Mapping[str, Any]) -> None:
    """Store what the tables stand on: release, recipe, code, machine."""
    store.put(
        f"{experiment_prefix(version, recipe)}/facts.json",
        json.dumps(facts, indent=1, sort_keys=True).encode(),
    )


def read_facts(store: Store, version: str, recipe: str) -> dict[str, Any]:
    """Read what the tables stand on. Raises NotFoundError."""
    return dict(store.get_json(f"{experiment_prefix(version, recipe)}/facts.json"))


def save_report(store: Store, version: str, recipe: str, files: Mapping[str, bytes]) -> str:
    """Store the report's files by relative name; gives where they lie."""
    prefix = f"{experiment_prefix(version, recipe)}/{REPORT}"
    for name, data in sorted(files.items()):
        store.put(f"{prefix}/{name}", data)
    return f"{store.url}/{prefix}"


def cost_id(asked: Mapping[str, Any]) -> str:
    """Name a measurement of costs by all that decides it."""
    return hashlib.sha256(canonical_json(asked)).hexdigest()[:16]


def save_cost(store: Store, version: str, name: str, cost: Cost) -> None:
    """Store what a network costs."""
    store.put(_cost_key(version, name), canonical_json(asdict(cost)))


def read_cost(store: Store, version: str, name: str) -> Cost | None:
    """Give what a network costs; None where it was not measured. Raises CorruptionError."""
    try:
        return Cost(**store.get_json(_cost_key(version, name)))
    except NotFoundError:
        return None
    except TypeError as error:
        raise CorruptionError(
            f"{_cost_key(version, name)} is no cost of a network. Remove it and measure again."
        ) from error


def experiment_prefix(version: str, recipe: str) -> str:
    """Give the folder of the experiments on a release by a recipe's name.

    Raises:
        InputError: The name cannot stand in a path, or means something else there.
    """
    if not is_safe_name(recipe) or recipe in {"costs", "diagnosis"}:
        raise InputError(
            "results cannot be filed under the recipe's name",
            got=recipe,
            expected="letters, digits, dots, dashes and underscores, and not `costs` or `diagnosis`",
            remedy="Give the recipe another `name`.",
        )
    return f"{EXPERIMENTS}/{version}/{recipe}"


def _cost_key(version: str, name: str) -> str:
    return f"{EXPERIMENTS}/{version}/costs/{name}.json"
