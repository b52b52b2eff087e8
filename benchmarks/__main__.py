"""All benchmarks in turn, then the pages of docs that are written from their results."""

import runpy

SCRIPTS = (
    "cost",
    "against",
    "peers",
    "textbook",
    "convergence",
    "margin",
    "memory",
    "reading",
    "survey",
    "publishing",
    "synthetic_errors",
    "truth",
    "ceiling",
    "fan_out",
    "task_runs",
    "review",
    "advisories",
    "steps",
    "page",
    "errors_page",
    "truth_page",
)


def main() -> None:
    for script in SCRIPTS:
        print(f"\n== {script}", flush=True)
        runpy.run_module(f"benchmarks.{script}", run_name="__main__")


if __name__ == "__main__":
    main()
