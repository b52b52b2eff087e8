"""The last step of curation: one Zarr case."""

from matting import Solution
from matting.geometry.patch import Patch
from matting.geometry.trimap import Trimap
from storage.cases.case import NewCase, write_case
from tasks.curation.context import NoduleContext


def write_zarr(
    context: NoduleContext, patch: Patch, trimap: Trimap, solutions: dict[str, Solution]
) -> None:
    """Write the case under its digest; a method that did not converge has no matte."""
    with context.timed_stage("write"):
        alphas = {
            name: solution.alpha if solution.converged else None
            for name, solution in solutions.items()
        }
        case = NewCase(
            context.nodule.id, str(context.digest), patch, trimap.labels, alphas, context.facts
        )
        context.stored_bytes = write_case(context.store, case)
