"""What it costs to merge what tiles found, and to judge it on the whole images; and what each way loses.

Drawn slides as full as the cytology note's, cut into tiles: each way in a process of its own, whose peak
memory has the drawn predictions in it, too. Then perfect predictions on drawn layouts.

python benchmarks/merging.py                    200 slides of 4,096 px with 1,300 objects each, and layouts
python benchmarks/merging.py --slides 20 --layouts 0
python benchmarks/merging.py --ways core --jackknife
"""

import argparse
import multiprocessing
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from search.judging.measured import run_replicates
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.trial import Merging
from trainables.data.boxes.tiling import cut, windows
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.matching import match
from trainables.evaluation.merging import WAYS, Ints, Placed, merge
from trainables.evaluation.overlaps import Floats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from layouts import drawn_layout, lost_and_doubled

SIDE, SIZE, OVERLAP, FULLEST = 4096, 640, 64, 300
COMMON_PER_RARE = 162
METRICS = ("minority_recall", "minority_ap50", "map50", "map50_95")


def main() -> None:
    """Draw, merge, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--objects", type=int, default=1300, help="per slide")
    parser.add_argument("--layouts", type=int, default=1000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--jackknife", action="store_true", help="time it for each way")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for way in args.ways if args.slides else []:
        process = context.Process(target=cost, args=(way, args.slides, args.objects, args.jackknife))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)
    for larger in (False, True) if args.layouts else ():
        print_lost(args.layouts, larger=larger)


def cost(way: Merging, slides: int, objects: int, jackknife: bool) -> None:
    """One way, in seconds of the clock and GiB."""
    found, image, placed, truth = drawn(slides, objects)
    before = peak_gib()
    clock = [time.perf_counter()]
    merged = merge(placed, found, image, way)
    clock.append(time.perf_counter())
    true_image, true_class, true_box = truth
    matches = match(merged.image, merged.label, merged.score, merged.box, true_image, true_class, true_box)
    predictions = DetectionPredictions(
        split="val",
        class_names=np.array(["common", "rare"]),
        minority=np.array([1]),
        image=np.array([f"{i}.png" for i in range(slides)]),
        source=np.array([f"{i}.png" for i in range(slides)]),
        size=np.full((slides, 2), SIDE),
        pred_image=merged.image,
        pred_class=merged.label,
        pred_score=merged.score,
        pred_box=merged.box,
        pred_match=matches,
        pred_ignored=np.zeros(len(matches), dtype=bool),
        true_image=true_image,
        true_class=true_class,
        true_box=true_box.astype(np.float32),
        max_det=FULLEST * len(found),
        conf=0.001,
        iou=0.5,
    )
    clock.append(time.perf_counter())
    metrics = detection_metrics(predictions)
    clock.append(time.perf_counter())
    spent = [after - start for start, after in pairwise(clock)]
    print(
        f"{way:7} {len(placed.score)} -> {len(merged.score)} boxes: merged in {spent[0]:.1f} s, matched in "
        f"{spent[1]:.1f}, measured in {spent[2]:.1f}: {sum(spent):.1f} s, {peak_gib():.2f} GiB "
        f"({before:.2f} before); " + ", ".join(f"{name} {metrics[name]:.4f}" for name in METRICS),
        flush=True,
    )
    if jackknife:
        start = time.perf_counter()
        run_replicates(predictions, METRICS, threshold=metrics["threshold"])
        print(f"        jackknife in {time.perf_counter() - start:.1f} s, {peak_gib():.2f} GiB", flush=True)


def peak_gib() -> float:
    """Of this process, up to now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def drawn(slides: int, objects: int) -> tuple[Ints, Ints, Placed, tuple[Ints, Ints, Floats]]:
    """Windows, the slide of each, what was found there, and the truth: slide, class, box."""
    rng = np.random.default_rng(0)
    grid = windows(SIDE, SIDE, size=SIZE, overlap=OVERLAP)
    parts = [_slide(rng, grid, objects) for _ in range(slides)]
    label, box, tile, found_label, score, found_box = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    counts = [len(part[2]) for part in parts]
    slide = np.repeat(np.arange(slides), counts)
    tile += slide * len(grid)
    placed = Placed(slide, tile, found_label, score.astype(np.float32), found_box.astype(np.float32))
    image = np.repeat(np.arange(slides), len(grid))
    return np.tile(grid, (slides, 1)), image, placed, (np.repeat(np.arange(slides), objects), label, box)


def _slide(
    rng: np.random.Generator, grid: Ints, objects: int
) -> tuple[Ints, Floats, Ints, Ints, Floats, Floats]:
    """Objects of one slide: class, box; and what fills each tile: tile, class, score, box."""
    label = (rng.random(objects) < 1 / (COMMON_PER_RARE + 1)).astype(np.int64)
    sides = rng.uniform(20, OVERLAP, (objects, 1)) * rng.uniform(0.8, 1, (objects, 2))
    low = rng.uniform(0, SIDE - sides)
    truth = np.hstack([low, low + sides])
    pieces = cut(truth, grid)
    seen = pieces.kept & (rng.random(len(pieces.window)) < 0.9)
    tile, corner, piece = pieces.window[seen], pieces.boxes[seen, :2], pieces.boxes[seen, 2:]
    found = np.hstack([corner, corner + piece]) + rng.normal(0, 1.5, (len(tile), 4))
    missing = np.maximum(FULLEST - np.bincount(tile, minlength=len(grid)), 0)
    more = np.repeat(np.arange(len(grid)), missing)
    at = rng.uniform(0, SIZE - 20, (len(more), 2))
    invented = np.hstack([at, at + rng.uniform(15, OVERLAP, (len(more), 2))])
    tile = np.concatenate([tile, more])
    box = np.clip(np.vstack([found, invented]), 0, SIZE) + np.tile(grid[tile, :2], 2)
    rare = (rng.random(len(more)) < 0.05).astype(np.int64)
    score = np.concatenate([rng.beta(5, 2, int(seen.sum())), rng.beta(0.5, 10, len(more))])
    return label, truth, tile, np.concatenate([label[pieces.object[seen]], rare]), score, box


def print_lost(layouts: int, *, larger: bool) -> None:
    """Perfect predictions: what each way loses, and doubles, at IoU .99."""
    lost = dict.fromkeys(WAYS, 0)
    doubled = dict.fromkeys(WAYS, 0)
    objects = 0
    for seed in range(layouts):
        layout = drawn_layout(np.random.default_rng(seed), larger=larger)
        objects += len(layout.objects)
        image = np.zeros(len(layout.windows), dtype=np.int64)
        for way in WAYS:
            missed, more = lost_and_doubled(layout, merge(layout.placed, layout.windows, image, way))
            lost[way] += missed
            doubled[way] += more
    sizes = "up to three times the overlap" if larger else "no larger than the overlap"
    print(f"{layouts} layouts, {objects} objects {sizes}, perfect predictions: lost and doubled at IoU .99")
    for way in WAYS:
        print(f"{way:7} {lost[way]:7} {doubled[way]:7}", flush=True)


if __name__ == "__main__":
    main()
