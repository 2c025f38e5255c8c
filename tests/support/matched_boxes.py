"""Predicted boxes that know what they hit, for tests: copies of a random truth, doubles, inventions."""

from dataclasses import replace

import numpy as np

from trainables.contract.predictions import DetectionPredictions, ShippedBoxes
from trainables.evaluation.matching import match

SIDE = 128


def with_matches(
    image, label, score, box, true_image, true_class, true_box, n_images: int
) -> DetectionPredictions:
    order = np.argsort(-np.asarray(score), kind="stable")
    image, label, score, box = (np.asarray(values)[order] for values in (image, label, score, box))
    true_image, true_class = np.asarray(true_image, int), np.asarray(true_class, int)
    true_box = np.asarray(true_box, float).reshape(-1, 4)
    return DetectionPredictions(
        split="val",
        class_names=np.array(["cell", "cluster"]),
        minority=np.array([1]),
        image=np.array([f"i{i}" for i in range(n_images)]),
        source=np.array([f"s{i // 4}" for i in range(n_images)]),
        size=np.full((n_images, 2), SIDE),
        pred_image=image,
        pred_class=label,
        pred_score=score.astype(np.float32),
        pred_box=box,
        pred_match=match(image, label, score, box, true_image, true_class, true_box),
        pred_ignored=np.zeros(len(image), dtype=bool),
        true_image=true_image,
        true_class=true_class,
        true_box=true_box,
        max_det=100,
        conf=0.001,
        iou=0.7,
    )


def drawn(seed: int, n_images: int = 60, per_image: float = 8.0, rare: float = 0.15) -> DetectionPredictions:
    """Random truth, and predictions that are shifted copies of it, doubles and inventions."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(per_image, n_images)
    true_image = np.repeat(np.arange(n_images), counts)
    n = len(true_image)
    true_class = (rng.random(n) < rare).astype(int)
    corner, sides = rng.uniform(0, 90, (n, 2)), rng.uniform(8, 36, (n, 2))
    true_box = np.concatenate([corner, corner + sides], axis=1)
    found = np.flatnonzero(rng.random(n) < 0.8)
    found = np.concatenate([found, rng.choice(found, len(found) // 4)])
    shift = rng.normal(0, 0.12, (len(found), 4)) * np.tile(sides[found], 2)
    m = n // 2
    corner, sides = rng.uniform(0, 90, (m, 2)), rng.uniform(8, 36, (m, 2))
    box = np.concatenate([true_box[found] + shift, np.concatenate([corner, corner + sides], axis=1)])
    label = np.concatenate([true_class[found], rng.random(m) < rare]).astype(int)
    image = np.concatenate([true_image[found], rng.integers(0, n_images, m)])
    score = np.concatenate([rng.beta(4, 2, len(found)), rng.beta(2, 4, m)])
    return with_matches(image, label, score, box, true_image, true_class, true_box, n_images)


def with_shipping(p: DetectionPredictions, conf: float = 0.6) -> DetectionPredictions:
    """As if the very boxes above a confidence were what the weights that ship find."""
    sure = p.pred_score > conf
    shipped = ShippedBoxes(
        tuned=sure,
        bias=np.zeros(len(p.class_names)),
        conf=conf,
        image=p.pred_image[sure],
        label=p.pred_class[sure],
        score=p.pred_score[sure],
        box=p.pred_box[sure],
        match=p.pred_match[sure, 0],
        ignored=p.pred_ignored[sure],
    )
    return replace(p, shipped=shipped)
