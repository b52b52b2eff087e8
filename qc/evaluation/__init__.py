"""The report of the experiments: the paper's tables, figures and videos."""
