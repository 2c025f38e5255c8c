"""Host work per training image at 640 px and 80 boxes, decoded pixels at hand: ours beside stock Ultralytics.

    RARECALL_CACHE=/tmp/cache python benchmarks/host_work.py /tmp/note [--rounds 9]

Samples of one data loader process, as a batch is made of them: stock's data set without mosaic, and ours
under four strategies. In each round every arm makes the same number of samples, stock before and after the
others; what counts is the CPU time of this thread. Printed are images per second of one core, and the median
over rounds of each arm's ratio to the mean of stock's two. Bars: plain 1.3, weighted and augmented by halves
1.0, copy_paste .7.

Ours leave the colours to the device, as they do beside a GPU.
"""

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import note_size
import yaml
from stock import StockLoop

from spaces.strategy import Strategy
from trainables.contract.trial import DataSpec, TrainSpec, TrialFolder, TrialSpec
from trainables.data.boxes.data_set import load_detection
from trainables.detector.strategy_run import StrategyRun

# isort: split
from ultralytics.utils import LOGGER

ARMS: dict[str, dict[str, float]] = {
    "plain": {},
    "weighted + augment .5": {"sampler_power": 1.0, "augment_minority": 0.5, "augment_rest": 0.5},
    "copy_paste 1.0": {"copy_paste": 1.0},
    "augment all 1.0": {"augment_minority": 1.0, "augment_rest": 1.0},
}
TILES = {"train": 160, "val": 8}
SAMPLES = 64  # of an arm in a round

Sample = Callable[[int], Any]


def some_tiles(note: Path, folder: Path) -> Path:
    """The data.yaml of a part of the note's set; a copy, since stock writes a cache of labels beside them."""
    for split, count in TILES.items():
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            (folder / kind / split).mkdir(parents=True)
            for file in sorted((note / kind / split).glob(f"*.{suffix}"))[:count]:
                shutil.copy(file, folder / kind / split)
    described = {split: f"images/{split}" for split in TILES} | {"names": list(note_size.CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(described))
    return folder / "data.yaml"


def ours(data: Path, scratch: Path, knobs: dict[str, float]) -> tuple[Sample, StrategyRun]:
    """The n-th draw of a run under a strategy."""
    folder = TrialFolder(scratch)
    folder.checkpoint.mkdir(parents=True)
    steps = 1000
    spec = TrialSpec(
        task="detection",
        strategy=Strategy.from_knobs(knobs),
        data=DataSpec(source=str(data), minority=("cluster",)),
        train=TrainSpec(
            model="yolo_tiny.yaml", imgsz=note_size.SIDE, batch=16, steps=steps, eval_every=steps
        ),
        seed=0,
    )
    run = StrategyRun(spec, folder, load_detection(data), lambda epoch, predictions: None)
    run._setup_train()
    draws = list(run.train_loader.sampler)
    run.train_loader.dataset.colours_later = True  # as beside a GPU, which then changes them
    return lambda n: run.train_loader.dataset[draws[n]], run


def stock(data: Path, run: StrategyRun) -> Sample:
    """The n-th image of stock's data set, in memory."""
    trainer = StockLoop(data, vars(run.args) | {"cache": "ram"})
    trainer.model = run.model  # its stride is asked for
    dataset = trainer.build_dataset(str(data.parent / "images" / "train"), "train", 16)
    return lambda n: dataset[n % len(dataset)]


def timed(sample: Sample, round_: int) -> float:
    """Images per CPU second."""
    started = time.thread_time()
    for n in range(round_ * SAMPLES, (round_ + 1) * SAMPLES):
        sample(n)
    return SAMPLES / (time.thread_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="as of note_size.py")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    LOGGER.setLevel(logging.ERROR)
    note_size.draw(args.folder)
    with tempfile.TemporaryDirectory(prefix="rarecall-host-") as scratch:
        data = some_tiles(args.folder, Path(scratch) / "tiles")
        made = {
            name: ours(data, Path(scratch) / str(i), knobs) for i, (name, knobs) in enumerate(ARMS.items())
        }
        arms = {name: sample for name, (sample, _) in made.items()}
        plain = stock(data, made["plain"][1])
        for sample in (plain, *arms.values()):
            timed(sample, 0)
        speeds: dict[str, list[float]] = {name: [] for name in ("stock", *arms)}
        ratios: dict[str, list[float]] = {name: [] for name in arms}
        for round_ in range(args.rounds):
            before = timed(plain, round_)
            found = {name: timed(sample, round_) for name, sample in arms.items()}
            mean = (before + timed(plain, round_)) / 2
            speeds["stock"].append(mean)
            for name, speed in found.items():
                speeds[name].append(speed)
                ratios[name].append(speed / mean)
    print(f"stock: {statistics.median(speeds['stock']):.0f} images/s of a core")
    for name, values in ratios.items():
        middle, speed = statistics.median(values), statistics.median(speeds[name])
        print(f"{name}: {speed:.0f} images/s, {middle:.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
