"""Train 3DMM on a release, and predict with a trained network."""
