"""Curated nodules: cases, their outcomes, and the runs that made them."""
