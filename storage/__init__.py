"""Reading and writing: sources of scans, cases, releases, results, reviews and exports, in a folder or a bucket."""
