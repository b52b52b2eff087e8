"""The last step of a nodule's way: everything into one Zarr case."""

from matting import Solution
from matting.patch import Patch
from matting.trimap import Trimap
from storage.cases import NewCase, write_case
from tasks.record import Record


def write_zarr(record: Record, patch: Patch, trimap: Trimap, solutions: dict[str, Solution]) -> None:
    """Store the case under its digest; a method that did not converge leaves no matte."""
    with record.at("write"):
        alphas = {name: solution.alpha if solution.converged else None for name, solution in solutions.items()}
        case = NewCase(record.nodule.id, str(record.digest), patch, trimap.labels, alphas, record.facts)
        record.stored_bytes = write_case(record.store, case)
