"""A child process that scores methods and waits after every nodule, so that it can be killed."""

import sys

from flows import score
from flows.evaluate import EvaluationJob, evaluate
from storage.recipe import load_recipe
from tasks.scoring.mattes import score_methods


def main() -> None:
    """Carry out the experiments on the store and by the recipe that are given."""
    scored = 0

    def telling(*arguments: object, **keywords: object) -> object:
        nonlocal scored
        found = score_methods(*arguments, **keywords)
        scored += 1
        print("scored", scored, flush=True)
        sys.stdin.readline()
        return found

    score.score_methods = telling
    evaluate(
        EvaluationJob(sys.argv[1], "0.1.0", load_recipe(sys.argv[2]), "cpu", parts=("tables",))
    )


if __name__ == "__main__":
    main()
