"""The paper's experiments on a release: networks, tables, diagnosis, cost."""
