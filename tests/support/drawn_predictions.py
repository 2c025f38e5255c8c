"""Random predictions of a split, for tests: 12 sources of three images, and a rare class."""

import numpy as np
from matched_boxes import with_shipping as shipping

from trainables.contract.predictions import ClassificationPredictions, DetectionPredictions
from trainables.evaluation.matching import IOUS

N_IMAGES = 36
SPLIT = {
    "split": "test",
    "class_names": np.array(["common", "rare", "other"]),
    "minority": np.array([1]),
    "image": np.array([f"i{i}" for i in range(N_IMAGES)]),
    "source": np.array([f"s{i % 12:02}" for i in range(N_IMAGES)]),
}


def drawn_detections(seed: int, *, decimals: int = 7) -> DetectionPredictions:
    """Four in five objects are found, more or less closely, and more invented. Few decimals: many ties."""
    rng = np.random.default_rng(seed)
    n = 90
    true_image, true_class = rng.integers(0, N_IMAGES, n), rng.choice(3, n, p=[0.5, 0.3, 0.2])
    found = np.flatnonzero(rng.random(n) < 0.8)
    closeness = np.concatenate([rng.uniform(0.4, 1, len(found)), np.zeros(n)])
    score = np.concatenate([rng.beta(4, 2, len(found)), rng.beta(2, 3, n)]).round(decimals)
    by_score = np.argsort(-score, kind="stable")
    return shipping(
        DetectionPredictions(
            **SPLIT,
            size=np.full((N_IMAGES, 2), 512),
            pred_image=np.concatenate([true_image[found], rng.integers(0, N_IMAGES, n)])[by_score],
            pred_class=np.concatenate([true_class[found], rng.integers(0, 3, n)])[by_score],
            pred_score=score[by_score].astype(np.float32),
            pred_box=rng.uniform(0, 512, (len(score), 4)).astype(np.float32),
            pred_match=(closeness[:, None] >= IOUS)[by_score],
            pred_ignored=np.zeros(len(score), dtype=bool),
            true_image=true_image,
            true_class=true_class,
            true_box=rng.uniform(0, 512, (n, 4)).astype(np.float32),
            max_det=100,
            conf=0.001,
            iou=0.7,
        )
    )


def drawn_classifications(seed: int, *, decimals: int = 7) -> ClassificationPredictions:
    """Every third image is of each class. Few decimals: many ties."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(N_IMAGES) % 3
    return ClassificationPredictions(
        **SPLIT,
        label=label,
        logits=(rng.normal(size=(N_IMAGES, 3)) + np.eye(3)[label]).round(decimals).astype(np.float32),
        weight=rng.uniform(0.1, 3, N_IMAGES),
        bias=rng.normal(size=3),
        temperature=1.5,
        tuned=rng.integers(0, 3, N_IMAGES),
        image_temperature=rng.uniform(1, 2, N_IMAGES),
    )
