"""The use cases that train: each checks, opens or makes a study, runs its work, and records it."""

from search.cluster.launch import RayCluster, impossible_here
from search.pipeline.comparing import compare_strategies, shown_metrics
from search.pipeline.confirming import confirm
from search.pipeline.opening import data_of, shown
from search.pipeline.searching import search

__all__ = [
    "RayCluster",
    "compare_strategies",
    "confirm",
    "data_of",
    "impossible_here",
    "search",
    "shown",
    "shown_metrics",
]
