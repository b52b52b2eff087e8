"""From the source to the trimap: read, crop, resample, label."""

import numpy as np

from matting.geometry.crop import crop_to_nodule
from matting.geometry.hounsfield import check_hounsfield
from matting.geometry.patch import Patch
from matting.geometry.resample import resample_patch
from matting.geometry.trimap import UNKNOWN, Trimap, build_trimap
from storage.cases.case import case_digest, find_incomplete
from tasks.curation.context import NoduleContext, input_fingerprint

HU_REMEDY = (
    "Convert it (the columns hu_slope and hu_offset of a table: HU = hu_slope * value + hu_offset),"
    " or fetch the original CT; where the values are right, set `hu_check: false` in the recipe."
)


def read_scan(context: NoduleContext) -> Patch:
    """Read the slices of a nodule, and check whether the store has a whole case of that content."""
    with context.timed_stage("scan"):
        # Before reading: a change in between is noticed by the next run.
        context.inputs = input_fingerprint(context.nodule, context.job)
        reading = context.source.read(
            context.nodule,
            padding_slices=context.recipe.crop.padding_slices,
            settings=context.recipe.resample,
        )
        context.digest = case_digest(reading.content_sha256, context.recipe)
        context.synthetic = reading.synthetic
        context.provenance = reading.provenance
        context.already_stored = not find_incomplete(
            context.store, context.nodule.id, context.digest
        )
        patch = reading.patch
        if context.recipe.hu_check:
            check_hounsfield(
                patch.image_hu, patch.valid, np.any(patch.readers, axis=0), remedy=HU_REMEDY
            )
        return patch


def crop(context: NoduleContext, scan: Patch) -> Patch:
    """Crop the window around the nodule."""
    with context.timed_stage("crop"):
        return crop_to_nodule(scan, context.recipe.crop)


def resample(context: NoduleContext, patch: Patch) -> Patch:
    """Resample the patch to isotropic voxels."""
    with context.timed_stage("resample"):
        return resample_patch(patch, context.recipe.resample)


def draw_trimap(context: NoduleContext, patch: Patch) -> Trimap:
    """Label known foreground, known background and the unknown band."""
    with context.timed_stage("trimap"):
        trimap = build_trimap(
            patch.readers,
            patch.valid,
            spacing_mm=patch.grid.spacing_mm,
            parameters=context.recipe.trimap,
        )
        context.unknown_voxels = int((trimap.labels == UNKNOWN).sum())
        context.patch_voxels = trimap.labels.size
        return trimap
