"""From the source to the trimap: read, crop, resample, label."""

from matting.geometry.crop import crop_to_nodule
from matting.geometry.patch import Patch
from matting.geometry.resample import resample_patch
from matting.geometry.trimap import UNKNOWN, Trimap, build_trimap
from storage.cases.case import case_digest, is_done
from tasks.curation.context import NoduleContext


def read_scan(record: NoduleContext) -> Patch:
    """Read the slices that the nodule needs and name the case; notes whether the store holds it already."""
    with record.at("scan"):
        reading = record.source.read(
            record.nodule, padding_slices=record.recipe.crop.padding_slices
        )
        record.digest = case_digest(reading.content_sha256, record.recipe)
        record.synthetic = reading.synthetic
        record.provenance = reading.provenance
        record.already_stored = is_done(record.store, record.nodule.id, record.digest)
        return reading.patch


def crop(record: NoduleContext, scan: Patch) -> Patch:
    """Cut the window around the nodule."""
    with record.at("crop"):
        return crop_to_nodule(scan, record.recipe.crop)


def resample(record: NoduleContext, patch: Patch) -> Patch:
    """Bring the patch to isotropic voxels."""
    with record.at("resample"):
        return resample_patch(patch, record.recipe.resample)


def draw_trimap(record: NoduleContext, patch: Patch) -> Trimap:
    """Label known foreground, known background and the unknown band."""
    with record.at("trimap"):
        trimap = build_trimap(
            patch.readers,
            patch.valid,
            spacing_mm=patch.grid.spacing_mm,
            parameters=record.recipe.trimap,
        )
        record.unknown_voxels = int((trimap.labels == UNKNOWN).sum())
        record.patch_voxels = trimap.labels.size
        return trimap
