"""The cytology note's size without its training: what everything around a training costs, in time and memory.

    RARECALL_CACHE=/tmp/cache python benchmarks/note_size.py /tmp/note      minutes; .8 GB are drawn once

Drawn are 7,360 tiles to train on and 1,831 of val, 640 px, with 146,945 objects in val of which 1,186 are
rare. The tiles are windows, turned and mirrored, on a few drawn slides: so no two files are the same, but
pixels are shared, and what is learnt from them means nothing. Labels above the note's counts are left out.

Measured on it:
- `rarecall check`, with nothing known of the images: seconds, and the peak of its memory. Bars: 60 s, 1 GiB.
- All that a trial does beside training and prediction, with made-up predictions, 300 a tile. Each step by
  itself: seconds, CPU seconds, anonymous memory when it began and at its peak. Bars: 60 s in all, 8 GiB.
- What a confirmation and a report do with the files of a run.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from search.judging.measured import identical_runs, limited_images, run_replicates
from search.judging.statistics.jackknife import split_noise
from search.pipeline.looking.found_missed import cases
from trainables.contract.predictions import (
    PREDICTIONS_FILE,
    DetectionPredictions,
    load_predictions,
    save_predictions,
)
from trainables.contract.tasks import TASKS
from trainables.data.boxes.listed import BoxData
from trainables.data.demo.cytology import CLASSES, VISIBLE, Scene, draw_slide
from trainables.data.sources import boxes_of
from trainables.detector.measuring.evaluator import Rows, by_score, measured_rows, with_shipped
from trainables.evaluation.detection import class_curves, detection_metrics
from trainables.evaluation.operating_point import fit_operating_point

SIDE = 640
TILES = {"train": 7360, "val": 1831, "test": 200}  # without a test split, half of val would become it
VAL_OBJECTS, VAL_RARE = 146_945, 1_186
# As many as the note has on a tile, and a few more, which then lose their label.
SLIDE, SLIDES = 4 * SIDE, 8
SCENE = Scene(SLIDE, cells=16 * 65.0, clusters=16 * 0.75, smears=16 * 1.6)
FOUND_PER_TILE = 300
POLL_S = 0.01
GIB = 2**30
STUDY = {
    "name": "note",
    "task": "detection",
    "data": "data.yaml",
    "minority": ["cluster"],
    "train": {"model": "yolo11n.yaml", "imgsz": SIDE, "batch": 16, "steps": 20, "eval_every": 20},
    "search": {"trials": 1},
}

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Slide:
    """BGR pixels (side, side, 3); classes (n,); boxes (n, 4) xyxy in pixels."""

    pixels: npt.NDArray[np.uint8]
    classes: Ints
    boxes: Floats

    def turned(self) -> "Slide":
        """A quarter to the left."""
        x1, y1, x2, y2 = self.boxes.T
        boxes = np.stack([y1, len(self.pixels) - x2, y2, len(self.pixels) - x1], axis=1)
        return Slide(np.ascontiguousarray(np.rot90(self.pixels)), self.classes, boxes)

    def mirrored(self) -> "Slide":
        """Left and right change places."""
        x1, y1, x2, y2 = self.boxes.T
        boxes = np.stack([len(self.pixels) - x2, y1, len(self.pixels) - x1, y2], axis=1)
        return Slide(np.ascontiguousarray(self.pixels[:, ::-1]), self.classes, boxes)

    def window(self, x: int, y: int) -> tuple[Ints, Floats]:
        """Class ids (m,) and boxes (m, 4), centres and sides as fractions, of the tile at (x, y)."""
        inside = np.clip(self.boxes - [x, y, x, y], 0, SIDE)
        sides = inside[:, 2:] - inside[:, :2]
        area = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        kept = sides.prod(axis=1) >= VISIBLE * area
        boxes = np.concatenate([(inside[:, :2] + inside[:, 2:]) / 2, sides], axis=1)[kept] / SIDE
        return self.classes[kept], boxes.astype(np.float32)


def draw(folder: Path, tiles: Mapping[str, int] = TILES, slides: int = SLIDES) -> None:
    """The data set and a study of it, unless they are there; so many tiles of each split."""
    if (folder / "study.yaml").is_file():
        return
    windows = every_slide(slides)
    for number, (split, count) in enumerate(tiles.items()):
        rng = np.random.default_rng((1, number))
        write_split(folder, split, windows, count, rng, exact=tiles is TILES)
    names = {**{split: f"images/{split}" for split in TILES}, "names": list(CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(names, sort_keys=False))
    (folder / "study.yaml").write_text(
        yaml.safe_dump({**STUDY, "data": str((folder / "data.yaml").resolve())}, sort_keys=False)
    )


def every_slide(count: int = SLIDES) -> list[Slide]:
    """What tiles are windows on: a few slides, turned and mirrored."""
    slides = []
    for number in range(count):
        pixels, classes, boxes = draw_slide(np.random.default_rng((0, number)), SCENE)
        slide = Slide(np.ascontiguousarray(pixels[..., ::-1]), classes, boxes)
        for _ in range(4):
            slides += [slide, slide.mirrored()]
            slide = slide.turned()
    return slides


def write_split(
    folder: Path,
    split: str,
    slides: list[Slide],
    count: int,
    rng: np.random.Generator,
    *,
    exact: bool = True,
) -> None:
    """Tiles with their labels; as many objects a tile as the note's val has, about so many if not `exact`."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    labels = []
    for i in range(count):
        slide = slides[rng.integers(len(slides))]
        x, y = (int(corner) for corner in rng.integers(0, SLIDE - SIDE, 2))
        tile = slide.pixels[y : y + SIDE, x : x + SIDE]
        cv2.imwrite(str(folder / "images" / split / f"tile{i:05}.jpg"), tile, [cv2.IMWRITE_JPEG_QUALITY, 92])
        labels.append(slide.window(x, y))
    share = count / TILES["val"]
    counts = [len(classes) for classes, _ in labels]
    every = np.concatenate([classes for classes, _ in labels])
    kept = np.zeros(len(every), dtype=bool)
    for c, number in enumerate((VAL_OBJECTS - VAL_RARE, VAL_RARE)):
        there = np.flatnonzero(every == c)
        wanted = round(number * share)
        assert len(there) >= wanted or not exact, f"{len(there)} of class {c} are too few"
        kept[rng.choice(there, min(wanted, len(there)), replace=False)] = True
    parts = np.split(kept, np.cumsum(counts)[:-1])
    for i, ((classes, boxes), part) in enumerate(zip(labels, parts, strict=True)):
        lines = [
            f"{c} " + " ".join(f"{v:.5f}" for v in row)
            for c, row in zip(classes[part], boxes[part], strict=True)
        ]
        (folder / "labels" / split / f"tile{i:05}.txt").write_text("\n".join(lines))


def found_on(data: BoxData, split: str, seed: int) -> Rows:
    """(P, 7) as a detector would find: copies of the true boxes, more or less close, and inventions."""
    rng, rows = np.random.default_rng(seed), []
    for i, image in enumerate(data.splits[split]):
        n = len(image.classes)
        copies = rng.permutation(np.repeat(np.arange(n), 2))[: FOUND_PER_TILE // 2]
        rest = FOUND_PER_TILE - len(copies)
        centre = np.concatenate([image.boxes[copies, :2], rng.random((rest, 2))])
        sides = np.concatenate([image.boxes[copies, 2:], rng.uniform(0.01, 0.03, (rest, 2))])
        centre += rng.normal(0, 0.12, centre.shape) * sides
        score = np.concatenate([rng.beta(3, 2, len(copies)), rng.beta(1, 6, rest)])
        label = np.concatenate([image.classes[copies], rng.random(rest) < VAL_RARE / VAL_OBJECTS])
        corners = np.hstack([centre - sides / 2, centre + sides / 2]) * SIDE
        rows.append(np.column_stack([np.full(FOUND_PER_TILE, i), corners, score, label]))
    return by_score(np.concatenate(rows))


@dataclass(frozen=True)
class Step:
    """What one step has cost."""

    name: str
    seconds: float
    cpu: float
    before: int
    peak: int


class Meter:
    """Steps of this process, with the peak of their anonymous memory, which another process reads."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._peak: Synchronized[int] = multiprocessing.Value("q", 0)
        watch = multiprocessing.Process(target=poll, args=(os.getpid(), self._peak), daemon=True)
        watch.start()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        before = anonymous(os.getpid())
        self._peak.value = before
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        time.sleep(2 * POLL_S)
        self.steps.append(Step(name, wall, cpu, before, self._peak.value))
        print(shown(self.steps[-1]), flush=True)


def shown(step: Step) -> str:
    memory = f"{step.before / GIB:5.2f} -> {step.peak / GIB:5.2f} GiB"
    return f"  {step.name:<44} {step.seconds:7.1f} s {step.cpu:7.1f} s of CPU   {memory}"


def poll(pid: int, peak: "Synchronized[int]") -> None:
    """Keep the peak, until the process ends."""
    while (now := anonymous(pid)) > 0:
        peak.value = max(peak.value, now)
        time.sleep(POLL_S)


def anonymous(pid: int) -> int:
    """Bytes that no file backs; 0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def check(folder: Path) -> None:
    """`rarecall check` of the study, twice: the second time the images are known."""
    run = "import sys; from rarecall.command import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "check", str(folder / "study.yaml"), "--json"]
    for known in ("nothing known", "again"):
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        peak: Synchronized[int] = multiprocessing.Value("q", 0)
        watch = multiprocessing.Process(target=poll, args=(process.pid, peak), daemon=True)
        watch.start()
        assert process.stdout is not None
        said = json.loads(process.stdout.read())
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0, f"it ended with {status}"
        spent = f"{time.perf_counter() - started:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU"
        memory = f"{used.ru_maxrss * 1024 / GIB:.2f} GiB resident, {peak.value / GIB:.2f} anonymous"
        print(f"check, {known}: {spent}, {memory}; {said['objects']['val']}", flush=True)


def trial(data: BoxData, meter: Meter, result: Path) -> DetectionPredictions:
    """What a trial does beside training and prediction: after an epoch, and at its end."""
    minority = (CLASSES.index("cluster"),)
    rows = found_on(data, "val", 0)
    with meter.step("after each epoch: matching"):
        val = measured_rows(rows, data, data.splits["val"], split="val", minority=minority)
    with meter.step("after each epoch: metrics"):
        threshold = detection_metrics(val)["threshold"]
    assert threshold is not None
    shown_rare = tuple(image for image in data.splits["train"] if np.isin(image.classes, minority).any())
    on_train = found_on(replace(data, splits={"train": shown_rare}), "train", 1)
    with meter.step(f"at the end: {len(shown_rare)} training tiles"):
        train = measured_rows(on_train, data, shown_rare, split="train", minority=minority)
        detection_metrics(train, threshold)
    del on_train, train
    prior = np.bincount(np.concatenate([image.classes for image in data.splits["train"]])).astype(np.float64)
    with meter.step("at the end: operating point"):
        point = fit_operating_point(val, prior)
    sure = rows[rows[:, 5] > point.conf]
    with meter.step("at the end: what ships"):
        val = with_shipped(val, data.splits["val"], sure, point, point.tuned)
    with meter.step("at the end: metrics"):
        detection_metrics(val, threshold)
    with meter.step("at the end: predictions written"):
        save_predictions(result / PREDICTIONS_FILE, val)
    return val


def confirmation(meter: Meter, result: Path, threshold: float) -> None:
    """What a confirmation does with each run, and a report with two."""
    with meter.step("a run: predictions read"):
        stored = load_predictions(result / PREDICTIONS_FILE)
    assert isinstance(stored, DetectionPredictions)
    with meter.step("a run: limits and identity"):
        limited_images(stored, threshold)
        identical_runs([stored, replace(stored, pred_score=stored.pred_score / 2)])
    deciding = ["minority_recall", "map50_95", "minority_ap50", "minority_precision"]
    for metrics in (deciding[:1], deciding, list(TASKS["detection"].metrics)):
        with meter.step(f"a run: jackknife of {len(metrics)} metrics, {len(stored.image)} sources"):
            found = run_replicates(stored, metrics, threshold=threshold)
        noise = split_noise([found[metrics[0]]])
        print(f"    {metrics[0]}: {found[metrics[0]].whole:.4f}, df {noise.df:.0f}, {noise.variance:.3e}")
    with meter.step("a report: curves, what is found and missed"):
        class_curves(stored)
        cases(stored, stored)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the data set, a GB; it is kept")
    parser.add_argument("--only", choices=("draw", "check", "evaluation"))
    args = parser.parse_args()
    started = time.perf_counter()
    draw(args.folder)
    print(f"drawn in {time.perf_counter() - started:.0f} s")
    if args.only in (None, "check"):
        check(args.folder)
    if args.only in (None, "evaluation"):
        meter = Meter()
        with meter.step("labels read, images known"):
            data = boxes_of(str(args.folder / "data.yaml"))
        val = trial(data, meter, args.folder)
        spent = meter.steps[1:]
        print(f"a trial beside training and prediction: {sum(one.seconds for one in spent):.1f} s")
        threshold = detection_metrics(val)["threshold"]
        del val
        confirmation(meter, args.folder, threshold or 0.0)
        print(f"highest peak {max(one.peak for one in meter.steps) / GIB:.2f} GiB")


if __name__ == "__main__":
    main()
