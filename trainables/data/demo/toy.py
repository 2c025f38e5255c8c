"""`demo:toy`: a data set in name only, for the analytic trainable: counts, and no images."""

import hashlib
import json

from trainables.data.summary import DataSummary, SplitSummary

CLASS_NAMES = ("common", "rare")
COUNTS = {"train": (960, 40), "val": (480, 20), "test": (480, 20)}  # images of each class


def describe() -> DataSummary:
    """Count it: images of one object each, 4 % of them rare."""
    splits = {
        split: SplitSummary(
            images=sum(counts),
            objects=dict(zip(CLASS_NAMES, counts, strict=True)),
            classes_per_image=tuple(
                frozenset({class_id}) for class_id, count in enumerate(counts) for _ in range(count)
            ),
            sources=sum(counts),
        )
        for split, counts in COUNTS.items()
    }
    return DataSummary(CLASS_NAMES, splits, hashlib.sha256(json.dumps(COUNTS).encode()).hexdigest()[:16])
