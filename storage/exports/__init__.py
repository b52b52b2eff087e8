"""A release as files of other formats: Zarr, NIfTI, npz, DICOM SEG."""
