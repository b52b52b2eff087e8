"""The last step of curation: one Zarr case."""

from matting import Solution
from matting.geometry.patch import Patch
from matting.geometry.trimap import Trimap
from storage.cases.case import ALGORITHM_VERSION, NewCase, write_case
from storage.records import CaseFacts, TrimapFacts
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
        facts = _facts(context, patch, trimap, tuple(alphas))
        case = NewCase(facts, patch, trimap.labels, alphas)
        context.stored_bytes = write_case(context.store, case)


def _facts(
    context: NoduleContext, patch: Patch, trimap: Trimap, methods: tuple[str, ...]
) -> CaseFacts:
    return CaseFacts(
        nodule=context.nodule.id,
        digest=str(context.digest),
        algorithm=ALGORITHM_VERSION,
        geometry=patch.grid,
        methods=methods,
        patient=context.nodule.patient_id,
        synthetic=context.synthetic,
        source=context.provenance,
        recipe=context.recipe.content_key(),
        trimap=TrimapFacts(trimap.inward_mm, trimap.core_voxels, context.unknown_voxels),
        reports=context.reports,
        scores=context.scores,
        errors=context.errors,
        form=context.recipe.form,
    )
