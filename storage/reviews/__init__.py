"""Verdicts of reviewers, their consensus, and the clinicians' studies."""
