"""Errors of a stored case in another form."""

import pytest
import SimpleITK as sitk

from flows.curate import curate_nodule
from matting import METHODS
from matting.errors import InputError
from storage.cases.case import Case, read_case
from storage.cases.outcomes import find_outcome
from storage.recipe import load_recipe
from storage.sources.table import FilesSource
from tasks.compare_forms import errors_of_recipe
from tests.phantoms import ball_patch


@pytest.fixture
def case(job, table, store) -> Case:
    """A case with a known alpha."""
    patch = ball_patch()
    image = sitk.GetImageFromArray(patch.known_alpha)
    image.SetSpacing(patch.grid.spacing_mm[::-1])
    image.SetOrigin(patch.grid.origin_lps_mm)
    sitk.WriteImage(image, str(table.parent / "truth.nii.gz"))
    header, first, *_ = table.read_text().splitlines()
    table.write_text(f"{header},known_alpha\n{first},truth.nii.gz\n")
    outcome = curate_nodule(FilesSource(table).inventory(readers=4).nodules[0], job)
    return read_case(store, "n1", outcome.digest)


def test_the_stored_form_gives_the_stored_errors(case):
    # The CT is stored as whole HU and the mattes in steps, hence not the very same digits
    errors = errors_of_recipe(case, load_recipe("paper"))
    assert errors == pytest.approx(case.facts.errors, abs=5e-3)
    assert set(errors) == {*METHODS, "readers_mean", "best_reader", "hu_linear"}


def test_the_other_form_gives_other_errors_and_leaves_the_trivial_ones(case):
    errors = errors_of_recipe(case, load_recipe("improved"))
    trivial = ("readers_mean", "best_reader", "hu_linear")
    assert {name: errors[name] for name in trivial} == {
        name: case.facts.errors[name] for name in trivial
    }
    assert all(abs(errors[name] - case.facts.errors[name]) > 1e-3 for name in ("cf", "knn", "if"))


def test_another_grid_is_refused(case):
    coarse = load_recipe("improved", resample={"spacing_mm": 1.0})
    with pytest.raises(InputError, match=r"another grid than the case: got .*1\.0"):
        errors_of_recipe(case, coarse)


def test_a_case_without_a_known_alpha_is_refused(curated, store):
    real = read_case(store, "n1", find_outcome(store, "n1").digest)
    with pytest.raises(InputError, match="need a known alpha: got n1"):
        errors_of_recipe(real, load_recipe("improved"))
