"""Metrics against a reference matte, metrics of candidates without one, trivial baselines."""
