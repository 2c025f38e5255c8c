"""The use cases that train: each checks, opens or makes a study, runs its work, and records it."""

from search.pipeline.comparing import compare_strategies, shown_metrics
from search.pipeline.confirming import Asked, confirm
from search.pipeline.searching import search
from search.pipeline.shared import data_of

__all__ = ["Asked", "compare_strategies", "confirm", "data_of", "search", "shown_metrics"]
