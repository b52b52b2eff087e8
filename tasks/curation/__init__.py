"""The steps of one nodule, in order: plan, preprocess, solve, write."""
