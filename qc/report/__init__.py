"""The report of a curation: one self-contained HTML page."""
