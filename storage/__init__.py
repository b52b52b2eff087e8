"""Where things lie: sources of scans, cases, decisions, releases."""
