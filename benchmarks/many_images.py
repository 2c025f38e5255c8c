"""What is made of 10,000 images' predictions after training, in time and memory: minutes of one core.

    python -m benchmarks.many_images                          all of it
    python -m benchmarks.many_images biases --classes 1000    one part; --goal for another than macro-F1

Drawn are a classifier's logits, overconfident and sharp, with confusions among kin and classes of unequal
size (of 1,000 two in five have fewer than five images), and a detector's boxes: 80 objects and 300 boxes an
image, of which 1 in 124 is rare. Each image is its own source.

- `biases`: `tune_biases` with its folds. Bars: 60 s, 2x the logits' memory.
- `metrics`: those of each epoch, all, and the temperatures.
- `jackknife`: of a run, its deciding metrics and all. Bar: 60 s.

The seconds of a plain loop of ten million additions stand first: half a second is usual.
"""

import argparse
import time
from typing import get_args

import numpy as np

from benchmarks.note_size import FOUND_PER_TILE, VAL_OBJECTS, VAL_RARE, Meter
from search.judging.measured import run_replicates
from search.judging.statistics.jackknife import split_noise
from trainables.contract.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
    ShippedBoxes,
)
from trainables.contract.tasks import TASKS
from trainables.contract.trial import Goal
from trainables.evaluation.calibration.fitting import frozen, tune_biases, tuned_on
from trainables.evaluation.classification import classification_metrics, untouched_metrics
from trainables.evaluation.matching import IOUS

IMAGES, OBJECTS = 10_000, 80
DIMS, KIN = 24, 10  # of the drawn features; classes that are confused
SHIPPED = 0.4  # confidence


def classified(n_classes: int, seed: int = 0) -> ClassificationPredictions:
    """Four of five images are called right."""
    rng = np.random.default_rng(seed)
    share = rng.permutation(1 / np.arange(1, n_classes + 1) ** 0.8)
    share /= share.sum()
    label = np.append(np.arange(n_classes), rng.choice(n_classes, IMAGES - n_classes, p=share))
    kin = rng.normal(size=(n_classes // KIN, DIMS))
    centre = kin[np.arange(n_classes) % len(kin)] + 0.8 * rng.normal(size=(n_classes, DIMS))
    seen = centre[label] + 1.3 * rng.normal(size=(IMAGES, DIMS))
    logits = np.log(share) - 0.75 * np.square(centre).sum(axis=1)
    return ClassificationPredictions.untouched(
        split="test",
        class_names=np.array([f"c{i}" for i in range(n_classes)]),
        minority=np.argsort(share)[: n_classes // 5],
        image=names(),
        source=names(),
        label=label,
        logits=(1.5 * seen @ centre.T + logits).astype(np.float32),
        weight=np.ones(IMAGES),
    )


def detected(seed: int = 0) -> DetectionPredictions:
    """Nine of ten objects are found, more or less closely; the other boxes are inventions."""
    rng = np.random.default_rng(seed)
    true_image = np.repeat(np.arange(IMAGES), OBJECTS)
    true_class = (rng.random(len(true_image)) < VAL_RARE / VAL_OBJECTS).astype(np.int64)
    found = np.flatnonzero(rng.random(len(true_image)) < 0.9)
    invented = IMAGES * FOUND_PER_TILE - len(found)
    closeness = np.append(rng.beta(6, 2, len(found)), np.zeros(invented))
    score = np.append(rng.beta(3, 2, len(found)), rng.beta(1, 6, invented)).astype(np.float32)
    label = np.append(true_class[found], (rng.random(invented) < VAL_RARE / VAL_OBJECTS).astype(np.int64))
    by_score = np.argsort(-score, kind="stable")
    image = np.append(true_image[found], rng.integers(0, IMAGES, invented))[by_score]
    label, score, match = label[by_score], score[by_score], closeness[by_score, None] >= IOUS
    tuned = score > SHIPPED
    shipped = ShippedBoxes(
        tuned=tuned,
        bias=np.zeros(2),
        conf=SHIPPED,
        image=image[tuned],
        label=label[tuned],
        score=score[tuned],
        box=np.zeros((int(tuned.sum()), 4), dtype=np.float32),
        match=match[tuned, 0],
        ignored=np.zeros(int(tuned.sum()), dtype=bool),
    )
    return DetectionPredictions(
        split="test",
        class_names=np.array(["cell", "cluster"]),
        minority=np.array([1]),
        image=names(),
        source=names(),
        size=np.full((IMAGES, 2), 640),
        pred_image=image,
        pred_class=label,
        pred_score=score,
        pred_box=np.zeros((len(score), 4), dtype=np.float32),
        pred_match=match,
        pred_ignored=np.zeros(len(score), dtype=bool),
        true_image=true_image,
        true_class=true_class,
        true_box=np.zeros((len(true_image), 4), dtype=np.float32),
        max_det=FOUND_PER_TILE,
        conf=0.001,
        iou=0.7,
        shipped=shipped,
    )


def names() -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return np.array([f"image{i:05}.jpg" for i in range(IMAGES)])


def biases(meter: Meter, n_classes: int, goal: Goal) -> None:
    val = classified(n_classes)
    with meter.step(f"biases: {n_classes} classes, {goal}"):
        found = tune_biases(
            val.logits, val.label, minority=val.minority, goal=goal, weight=val.weight, min_precision=0.5
        )
    step = meter.steps[-1]
    times = (step.peak - step.before) / val.logits.nbytes
    print(f"    factor {found.factor}, {np.count_nonzero(found.bias)} moved; {times:.1f}x the logits' memory")


def metrics(meter: Meter, n_classes: int) -> None:
    val = classified(n_classes)
    with meter.step(f"metrics of an epoch: {n_classes} classes"):
        untouched_metrics(val)
    with meter.step("metrics at the end"):
        classification_metrics(val)
    if n_classes < 1000:
        return
    with meter.step("biases and temperatures"):
        tuned = tuned_on(val, goal="macro_f1")
    with meter.step("another split decided"):
        frozen(val, tuned)


def jackknife(meter: Meter, of: Predictions, deciding: list[str], every: tuple[str, ...]) -> None:
    boxes = f", {len(of.pred_image)} boxes" if isinstance(of, DetectionPredictions) else ""
    for asked in (deciding, list(every)):
        with meter.step(f"jackknife of {len(asked)} metrics, {len(of.class_names)} classes{boxes}"):
            found = run_replicates(of, asked, threshold=SHIPPED if boxes else None)
        noise = split_noise([found[asked[0]]])
        print(
            f"    {asked[0]}: {found[asked[0]].whole:.4f}, df {noise.df:.0f}, variance {noise.variance:.3e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("biases", "metrics", "jackknife"))
    parser.add_argument(
        "--classes", type=int, choices=(10, 100, 1000), help="of a classifier; else all three"
    )
    parser.add_argument("--goal", choices=get_args(Goal), default="macro_f1")
    args = parser.parse_args()
    started, total = time.process_time(), 0
    for i in range(10**7):
        total += i
    print(f"ten million additions: {time.process_time() - started:.2f} s")
    meter = Meter()
    for n_classes in (10, 100, 1000) if args.classes is None else (args.classes,):
        if args.part in (None, "biases"):
            biases(meter, n_classes, args.goal)
        if args.part in (None, "metrics"):
            metrics(meter, n_classes)
        if args.part in (None, "jackknife"):
            run, traits = classified(n_classes), TASKS["classification"]
            jackknife(meter, run, list(traits.objectives), traits.metrics)
    if args.part in (None, "jackknife") and args.classes is None:
        jackknife(meter, detected(), list(TASKS["detection"].objectives), TASKS["detection"].metrics)


if __name__ == "__main__":
    main()
