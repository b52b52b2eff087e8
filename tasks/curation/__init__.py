"""The steps of curation, in order: plan, preprocess, solve, write."""
