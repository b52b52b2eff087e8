"""The four matting Laplacians: one paper, one file."""
