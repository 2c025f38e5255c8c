"""Training throughput beside stock Ultralytics: the same model, data, settings and augmentations.

A pair trains both in this process, one after the other, and the next pair in the other order: 160 tiles of
demo:cytology, batch 16, 128 px, AdamW, no accumulation, images in memory, no plots, mosaic and stock's own
Albumentations off, uniform draws, one thread. The first passes over the tiles warm up; timed are those after
them, the training loop alone: no set-up, no validation, no checkpoint. Images per second of CPU time: with
one thread that is the wall time on an idle machine, and other work on the machine changes it little.

    RARECALL_CACHE=/tmp/cache python benchmarks/stock.py [--pairs 15] [--passes 4]

The last line is `median A lower B`: ours over stock. B bounds the median of the ratios from below: the order
statistic with the highest rank whose level by the sign test is at least 90 % (the 5th smallest of 15, 94 %).
"""

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from scipy.stats import binom

from spaces.strategy import PLAIN
from trainables.contract.trial import DataSpec, TrainSpec, TrialFolder, TrialSpec
from trainables.data.boxes.data_set import detection_once
from trainables.data.demo import cytology
from trainables.detector.strategy_run import StrategyRun

# isort: split
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER

WARM_UP = 1  # passes
BATCH, SIDE = 16, 128
TILES = {"train": 160, "val": 16}
LEVEL = 0.9


class Stopwatch:
    """CPU and wall seconds, and images, of the passes after the first; attached to a trainer's callbacks."""

    def __init__(self, trainer: DetectionTrainer) -> None:
        self.cpu = self.wall = 0.0
        self.images = 0
        trainer.add_callback("on_train_epoch_start", self._start)
        trainer.add_callback("on_train_epoch_end", self._stop)

    def _start(self, trainer: DetectionTrainer) -> None:
        settle()
        self._started = time.process_time(), time.perf_counter()

    def _stop(self, trainer: DetectionTrainer) -> None:
        settle()
        if trainer.epoch >= WARM_UP:
            self.cpu += time.process_time() - self._started[0]
            self.wall += time.perf_counter() - self._started[1]
            self.images += len(trainer.train_loader.dataset)


def settle() -> None:
    """Wait until a GPU has done what it was told."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


class StockLoop(DetectionTrainer):
    """Ultralytics' own loop, but for its check of the data set, which asks the network for a font."""

    def __init__(self, data: Path, overrides: dict[str, Any]) -> None:
        self.root, self.yolo = data.parent, detection_once(data)
        super().__init__(overrides=overrides)
        torch.set_num_threads(1)
        self.callbacks = {name: [] for name in self.callbacks}  # as ours: its own would log

    def get_dataset(self) -> dict[str, Any]:
        splits = {split: str(self.root / "images" / split) for split in ("train", "val")}
        names = dict(enumerate(self.yolo.class_names))
        return splits | {"names": names, "nc": len(names), "channels": 3}

    def validate(self) -> tuple[dict[str, float], float]:
        return {}, 0.0

    def save_model(self) -> bool:
        return False

    def final_eval(self) -> None:
        pass


class StockRun(StockLoop):
    """The same with what Ultralytics does after each epoch: it validates, and saves the weights."""

    validate = DetectionTrainer.validate
    save_model = DetectionTrainer.save_model


class OurLoop(StrategyRun):
    """Ours, with neither validation nor checkpoints, as stock's is timed here."""

    def validate(self) -> tuple[dict[str, float], float]:
        return {}, 0.0

    def save_model(self) -> bool:
        return False

    def report_epoch(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--passes", type=int, default=4, help="timed passes over the tiles")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    LOGGER.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="rarecall-stock-") as scratch:
        data = some_tiles(Path(scratch) / "tiles")
        ratios = [time_pair(data, Path(scratch) / str(pair), pair, args.passes) for pair in range(args.pairs)]
    for name, values in zip(("CPU", "wall"), zip(*ratios, strict=True), strict=True):
        print(f"{name} time: median {statistics.median(values):.3f} lower {lower_bound(values):.3f}")
    cpu = [ratio[0] for ratio in ratios]
    print(f"median {statistics.median(cpu):.3f} lower {lower_bound(cpu):.3f}")


def some_tiles(folder: Path) -> Path:
    """The data.yaml of a part of the demo; a copy, since stock writes a cache of labels beside them."""
    demo = cytology.materialise()
    for split, count in TILES.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for image in sorted((demo.parent / "images" / split).iterdir())[:count]:
            label = demo.parent / "labels" / split / f"{image.stem}.txt"
            shutil.copy(image, folder / "images" / split)
            if label.exists():
                shutil.copy(label, folder / "labels" / split)
    described = yaml.safe_load(demo.read_text())
    part = {split: f"images/{split}" for split in TILES} | {"names": described["names"]}
    (folder / "data.yaml").write_text(yaml.safe_dump(part))
    return folder / "data.yaml"


def time_pair(data: Path, scratch: Path, pair: int, passes: int) -> tuple[float, float]:
    """Ours over stock, images per second of CPU and of wall time."""
    watches: dict[str, Stopwatch] = {}
    for arm in ("stock", "ours") if pair % 2 else ("ours", "stock"):
        (scratch / arm).mkdir(parents=True)
        trainer = our_loop(tiny_spec(data, passes, seed=pair), scratch / arm)
        if arm == "stock":
            trainer = StockLoop(data, vars(trainer.args) | {"cache": "ram"})
        watches[arm] = Stopwatch(trainer)
        trainer.train()
    ours, stock = watches["ours"], watches["stock"]
    cpu = (ours.images / ours.cpu) / (stock.images / stock.cpu)
    wall = (ours.images / ours.wall) / (stock.images / stock.wall)
    print(
        f"pair {pair}: images per CPU second: ours {ours.images / ours.cpu:.1f}, "
        f"stock {stock.images / stock.cpu:.1f}, ratio {cpu:.3f} (wall {wall:.3f})",
        flush=True,
    )
    return cpu, wall


def tiny_spec(data: Path, passes: int, *, seed: int) -> TrialSpec:
    """A plain run whose epochs are whole passes over the training tiles, as stock's are."""
    per_pass, left = divmod(len(detection_once(data).splits["train"]), BATCH)
    assert left == 0, "a last batch that is smaller would be another step"
    return TrialSpec(
        task="detection",
        strategy=PLAIN,
        data=DataSpec(source=str(data), minority=("cluster",)),
        train=TrainSpec(
            model="yolo_tiny.yaml",
            imgsz=SIDE,
            batch=BATCH,
            steps=per_pass * (WARM_UP + passes),
            eval_every=per_pass,
        ),
        seed=seed,
    )


def our_loop(spec: TrialSpec, scratch: Path) -> OurLoop:
    """A run of `spec`, set up in a folder; its arguments are stock's, too."""
    folder = TrialFolder(scratch)
    folder.checkpoint.mkdir()
    return OurLoop(spec, folder, detection_once(Path(spec.data.source)), lambda measured: None)


def lower_bound(ratios: list[float]) -> float:
    """The order statistic that lies below the median of what was drawn from with probability >= `LEVEL`."""
    n = len(ratios)
    rank = max(k for k in range(1, n + 1) if k == 1 or 1 - binom.cdf(k - 1, n, 0.5) >= LEVEL)
    return sorted(ratios)[rank - 1]


if __name__ == "__main__":
    main()
