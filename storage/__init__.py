"""Reading and writing: sources, cases, releases, results, reviews and exports."""
