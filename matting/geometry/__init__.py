"""Where voxels are: the grid, the patch, cropping, resampling, the trimap."""
