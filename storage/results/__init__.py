"""What is computed from a release: checkpoints, scores, experiments, diagnoses."""
