"""Curated nodules: cases, their outcomes, the runs that made them."""
