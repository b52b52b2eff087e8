"""The last step of a nodule's way: everything into one Zarr case."""

from matting import Solution
from matting.geometry.patch import Patch
from matting.geometry.trimap import Trimap
from storage.cases.case import NewCase, write_case
from tasks.curation.context import NoduleContext


def write_zarr(
    record: NoduleContext, patch: Patch, trimap: Trimap, solutions: dict[str, Solution]
) -> None:
    """Store the case under its digest; a method that did not converge leaves no matte."""
    with record.at("write"):
        alphas = {
            name: solution.alpha if solution.converged else None
            for name, solution in solutions.items()
        }
        case = NewCase(
            record.nodule.id, str(record.digest), patch, trimap.labels, alphas, record.facts
        )
        record.stored_bytes = write_case(record.store, case)
