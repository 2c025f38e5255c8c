"""What a study may take: resources of each run, a budget, and what a cluster is asked for."""
