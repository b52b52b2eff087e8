"""How work is spread: the Dask cluster, batches of nodules, progress, Prefect's server."""
