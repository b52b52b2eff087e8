"""Where nodules come from: LIDC-IDRI as DICOM, tables of volume files, synthetic CT."""
