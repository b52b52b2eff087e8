"""Releases: publishing, reading, splits, card, metadata, statistics, differences."""
