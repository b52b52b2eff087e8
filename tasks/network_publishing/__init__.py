"""Published networks: the files of the folder that others copy, upload and predict with."""
