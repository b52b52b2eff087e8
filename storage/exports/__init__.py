"""A release as files of other formats: Zarr, NIfTI, npz, nnU-Net, DICOM SEG."""
