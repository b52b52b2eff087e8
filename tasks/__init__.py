"""Steps of the pipeline: read by key, call a pure function, write by key, return a small record."""
