"""The last step of a nodule's way: everything into one Zarr case."""

from matting import Solution
from matting.geometry.patch import Patch
from matting.geometry.trimap import Trimap
from storage.cases.case import ALGORITHM_VERSION, NewCase, write_case
from storage.records import CaseFacts, TrimapFacts
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
        facts = _facts(record, patch, trimap, tuple(alphas))
        case = NewCase(facts, patch, trimap.labels, alphas)
        record.stored_bytes = write_case(record.store, case)


def _facts(
    record: NoduleContext, patch: Patch, trimap: Trimap, methods: tuple[str, ...]
) -> CaseFacts:
    return CaseFacts(
        nodule=record.nodule.id,
        digest=str(record.digest),
        algorithm=ALGORITHM_VERSION,
        geometry=patch.grid,
        methods=methods,
        patient=record.nodule.patient_id,
        synthetic=record.synthetic,
        source=record.provenance,
        recipe=record.recipe.content_key(),
        trimap=TrimapFacts(trimap.inward_mm, trimap.core_voxels, record.unknown_voxels),
        reports=record.reports,
        scores=record.scores,
        errors=record.errors,
    )
