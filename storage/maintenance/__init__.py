"""Verify what a store holds; find what nothing refers to."""
