"""What `rarecall fuse` costs on a val split of the cytology note's size: all pairs of models, by their boxes.

    python benchmarks/fusion.py --models 40 [--whole-images]

Drawn: 1,831 tiles of 640 px with 145,759 cells and 1,186 clusters; each model finds four in five of them and
invents more, 352,000 boxes in all. With whole images these are 51 slides of 6 x 6 tiles that overlap by 64;
they decide, and the best pairs are merged in every way.
"""

import argparse
import resource
import time
from functools import partial
from typing import get_args

import numpy as np
from rich.console import Console

from search.judging.fusion import Model, Rules
from search.pipeline.fusing import all_pairs
from search.request.config import StudyConfig
from spaces.strategy import PLAIN
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.tasks import MERGED
from trainables.contract.trial import Merging
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.matching import match
from trainables.evaluation.whole_images import Layout, merged

IMAGES, OBJECTS, BOXES, SIDE = 1_831, (145_759, 1_186), 352_000, 640
ACROSS, OVERLAP = 6, 64


def drawn(seed: int) -> DetectionPredictions:
    """What one model finds; the truth is the same for all."""
    of_all, rng = np.random.default_rng(0), np.random.default_rng(seed)
    true_class = np.repeat([0, 1], OBJECTS)
    true_image = of_all.integers(0, IMAGES, len(true_class))
    sides = np.where(true_class[:, None], of_all.uniform(40, 80, (len(true_class), 2)), 16.0)
    corner = of_all.uniform(0, 1, (len(true_class), 2)) * (SIDE - sides)
    truth = np.hstack([corner, corner + sides])
    found = np.flatnonzero(rng.random(len(truth)) < 0.8)
    more = rng.integers(0, len(truth), BOXES - len(found))
    label = np.concatenate([true_class[found], true_class[more]])
    image = np.concatenate([true_image[found], rng.integers(0, IMAGES, len(more))])
    own = np.concatenate([truth[found], truth[more]])
    box = own + rng.normal(0, 2, own.shape)
    score = np.concatenate([rng.beta(4, 2, len(found)), rng.beta(1, 6, len(more))]).astype(np.float32)
    order = np.argsort(-score, kind="stable")
    image, label, score, box = image[order], label[order], score[order], box[order]
    return DetectionPredictions(
        split="val",
        class_names=np.array(["cell", "cluster"]),
        minority=np.array([1]),
        image=np.array([f"{i}" for i in range(IMAGES)]),
        source=np.array([f"{i % 200}" for i in range(IMAGES)]),
        size=np.full((IMAGES, 2), SIDE),
        pred_image=image,
        pred_class=label,
        pred_score=score,
        pred_box=box.astype(np.float32),
        pred_match=match(image, label, score, box, true_image, true_class, truth),
        pred_ignored=np.zeros(len(image), dtype=bool),
        true_image=true_image,
        true_class=true_class,
        true_box=truth.astype(np.float32),
        max_det=300,
        conf=0.001,
        iou=0.7,
    )


def slides(tiles: DetectionPredictions) -> Layout:
    """Where the tiles lie; every object is taken for one of its slide."""
    count = -(-IMAGES // (ACROSS * ACROSS))
    whole, place = np.divmod(np.arange(IMAGES), ACROSS * ACROSS)
    corner = np.column_stack([place % ACROSS, place // ACROSS]) * (SIDE - OVERLAP)
    side = ACROSS * (SIDE - OVERLAP) + OVERLAP
    return Layout(
        name=np.array([f"{i}" for i in range(count)]),
        source=np.array([f"{i}" for i in range(count)]),
        size=np.full((count, 2), side),
        whole=whole,
        window=np.hstack([corner, np.full((IMAGES, 2), SIDE)]),
        true_image=whole[tiles.true_image],
        true_class=tiles.true_class,
        true_box=tiles.true_box + np.tile(corner[tiles.true_image], 2),
    )


def main() -> None:
    """Time it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=40)
    parser.add_argument("--whole-images", action="store_true")
    args = parser.parse_args()
    found_by = [drawn(i + 1) for i in range(args.models)]
    layout = slides(found_by[0])
    merge = (lambda tiles: partial(merged, tiles, layout)) if args.whole_images else lambda tiles: None
    models = [Model(f"trial {i}", PLAIN, 1.0, tiles, merge(tiles)) for i, tiles in enumerate(found_by)]
    config = StudyConfig.model_validate(
        {
            "name": "fusion",
            "task": "detection",
            "data": "data.yaml",
            "minority": ["cluster"],
            "train": {"model": "yolo_tiny.yaml", "steps": 10, "eval_every": 10},
        }
    )
    way: Merging | None = "core" if args.whole_images else None
    baseline = detection_metrics(found_by[0])
    if way is not None:
        of_wholes = detection_metrics(models[0].seen(way).found)
        baseline |= {f"{MERGED}{name}": value for name, value in of_wholes.items()}
    rules = Rules.of(config, baseline, whole_images=args.whole_images)
    others = [other for other in get_args(Merging) if other != way] if args.whole_images else []
    began = time.perf_counter()
    found = all_pairs(models, rules, way, others, Console(quiet=True))
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    pairs = len(models) * (len(models) - 1)
    print(f"{pairs} pairs, {len(found)} fusions: {took:.1f} s, peak {peak:.2f} GiB with all boxes")


if __name__ == "__main__":
    main()
