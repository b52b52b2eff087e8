"""Reviews: verdicts, their consensus, studies, verdicts as files."""
