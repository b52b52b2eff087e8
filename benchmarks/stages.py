"""Times one checkout's eight methods stage by stage; `benchmarks.against` runs one for each side.

    PYTHONPATH=<checkout> python -P benchmarks/stages.py <checkout>

Imports nothing but that checkout's `matting`, of this version or an older one. First writes its
default parameters as a line of JSON. Then reads tasks, one line each: the path of an .npz with
`image_hu`, `labels` and `spacing_mm`, and parameters by section. Answers each with CPU seconds: of
the whole call and, without what lies within another stage, of each stage.
"""

import dataclasses
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_limits

import matting

STAGES = {
    "neighbour search": (
        "matting.neighbours.nearest",
        "matting.solvers.knn_search.nearest_neighbours",
    ),
    "operators": tuple(
        f"matting.methods.{method}.build"
        for method in ("closed_form", "knn", "learning_based", "information_flow")
    ),
    "right-hand side": (
        "matting.solver._assemble",
        "matting.solvers.conjugate_gradient._assemble",
    ),
    "coarse matrix": (
        "matting.solver._coarse",
        "matting.solvers.conjugate_gradient._coarse_correction",
    ),
    "preconditioner": (
        "matting.solver._precondition",
        "matting.solvers.conjugate_gradient._precondition",
    ),
    "products and vectors": (
        "matting.solver.conjugate_gradients",
        "matting.solvers.conjugate_gradient.conjugate_gradients",
    ),
}
"""The functions of each stage, under the names of all versions."""
REST = "the rest"


class Clock:
    """CPU seconds of each stage, each without the stages that it calls."""

    def __init__(self) -> None:
        """Start at 0."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._within = [0.0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that adds its time to a stage."""

        def call(*arguments: object, **options: object) -> object:
            self._within.append(0.0)
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent = time.process_time() - start
                self.seconds[stage] += spent - self._within.pop()
                self._within[-1] += spent

        return call


def main(checkout: str) -> None:
    if not Path(matting.__file__).is_relative_to(Path(checkout).resolve()):
        raise SystemExit(f"{matting.__file__} is not in {checkout}")
    threadpool_limits(1)
    numba.set_num_threads(1)
    clock = Clock()
    watch(clock)
    defaults = dataclasses.asdict(matting.Parameters())
    print(json.dumps(defaults), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        nodule = np.load(task["nodule"])
        parameters = parameters_of(matting.Parameters(), task["parameters"])
        clock.seconds = dict.fromkeys(STAGES, 0.0)
        start = time.process_time()
        solutions = matting.estimate_alphas(
            nodule["image_hu"],
            nodule["labels"],
            spacing_mm=tuple(nodule["spacing_mm"].tolist()),
            parameters=parameters,
        )
        whole = time.process_time() - start
        rest = whole - sum(clock.seconds.values())
        answer = {
            "seconds": {"all eight": whole, **clock.seconds, REST: rest},
            "converged": sum(solution.converged for solution in solutions.values()),
        }
        print(json.dumps(answer), flush=True)


def watch(clock: Clock) -> None:
    """Time every stage, under whatever name a module of this checkout imported its functions."""
    for stage, names in STAGES.items():
        for name in names:
            module, attribute = name.rsplit(".", 1)
            try:
                function = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError):
                continue
            timed = clock.timed(stage, function)
            for other in [m for n, m in sys.modules.items() if n.split(".")[0] == "matting"]:
                for key in [key for key, value in vars(other).items() if value is function]:
                    setattr(other, key, timed)


def parameters_of(
    parameters: matting.Parameters, changes: dict[str, dict[str, Any]]
) -> matting.Parameters:
    """Change some fields of some sections; lists become tuples."""
    sections = {}
    for section, fields in changes.items():
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        sections[section] = dataclasses.replace(getattr(parameters, section), **values)
    return dataclasses.replace(parameters, **sections)


if __name__ == "__main__":
    main(sys.argv[1])
