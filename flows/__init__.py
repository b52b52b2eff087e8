"""When and where things run: flows, the cluster, the command line."""
