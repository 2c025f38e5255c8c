"""One trial at the cytology note's size, from its start to its report; and tiles that two trials share.

    RARECALL_CACHE=/tmp/cache python benchmarks/note_trial.py /tmp/note [--model yolov5s.yaml] [--only shared]

The data set is that of `note_size.py`, which draws it. Printed are

- of a trial, seconds in training, in prediction and outside of both, and the peak of its anonymous memory,
  which it polls. Bars: 60 s outside, 8 GiB.
- of two processes that have read all tiles of train and val from the node's file, the sum of their
  proportional set sizes of it (PSS in /proc/PID/smaps: a page that both have counts half for each). Bar: 1.1
  times the file's size.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from note_size import GIB, SIDE, draw, poll
from second_trial import Phases

from spaces.strategy import PLAIN
from trainables.contract.trial import DataSpec, TrainSpec, TrialFailure, TrialFolder, TrialSpec
from trainables.data.boxes.stored import PIXELS, tiles_of
from trainables.data.sources import boxes_of
from trainables.worker.run import run_trial

SPLITS = ("train", "val")


def trial(folder: Path, model: str, steps: int) -> None:
    """Run it in this process."""
    from trainables.detector import strategy_run  # noqa: PLC0415
    from trainables.detector.measuring import evaluator  # noqa: PLC0415

    phases, run = Phases(), strategy_run.StrategyRun
    predicting: Any = in_phase(phases, "prediction", evaluator.find_boxes)
    evaluator.find_boxes = strategy_run.find_boxes = predicting
    begin, end = run.seed_epoch, run.validate

    def seed_epoch(self: Any) -> None:
        phases.enter("training")
        begin(self)

    def validate(self: Any) -> Any:
        phases.leave("training")
        return end(self)

    run.seed_epoch, run.validate = seed_epoch, validate  # type: ignore[method-assign]
    spec = TrialSpec(
        task="detection",
        strategy=PLAIN,
        data=DataSpec(source=str((folder / "data.yaml").resolve()), minority=("cluster",)),
        train=TrainSpec(model=model, imgsz=SIDE, batch=16, steps=steps, eval_every=steps),
        seed=0,
    )
    peak: Synchronized[int] = multiprocessing.Value("q", 0)
    watch = multiprocessing.Process(target=poll, args=(os.getpid(), peak), daemon=True)
    watch.start()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_trial(spec, TrialFolder(Path(scratch)), lambda measured: None)
    assert not isinstance(outcome, TrialFailure), outcome.reason
    phases.enter("done")
    for phase in ("training", "prediction", "outside"):
        wall, cpu = (phases.seconds[f"{phase} {clock}"] for clock in ("wall", "CPU"))
        print(f"{model}, {phase}: {wall:.1f} s, {cpu:.1f} s of CPU")
    found = outcome.metrics["minority_recall"]
    spent = time.perf_counter() - started
    print(f"in all {spent:.0f} s; pixels {outcome.applied['pixels']}; recall {found:.3f}")
    print(f"peak of anonymous memory {peak.value / GIB:.2f} GiB")


def in_phase(phases: Phases, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, its time charged to a phase."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        with phases.of(name):
            return function(*args, **kwargs)

    return timed


def shared(folder: Path) -> None:
    """Two processes that hold all tiles."""
    made, told = multiprocessing.Barrier(3), multiprocessing.Barrier(3)
    readers = [multiprocessing.Process(target=read_all, args=(folder, made, told)) for _ in range(2)]
    for reader in readers:
        reader.start()
    made.wait()
    held = sum(proportional(reader.pid or 0) for reader in readers)
    told.wait()
    data = boxes_of(str(folder / "data.yaml"))
    size = sum(3 * SIDE * SIDE * len(data.splits[split]) for split in SPLITS)
    print(f"{size / GIB:.2f} GiB of tiles, mapped by two processes: {held / size:.3f} times that in memory")


def read_all(folder: Path, made: Any, told: Any) -> None:
    """Read every tile, and keep them until it is told."""
    data = boxes_of(str(folder / "data.yaml"))
    every = [(split, tiles_of(data, split, SIDE)) for split in SPLITS]
    assert sum(int(tiles(image)[::2].sum()) for split, tiles in every for image in data.splits[split])
    made.wait()
    told.wait()


def proportional(pid: int) -> int:
    """Bytes of the tiles' files in a process's memory; a page that two have counts half."""
    size, of_tiles = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            of_tiles = line.endswith(PIXELS)
        elif of_tiles and line.startswith("Pss:"):
            size += int(line.split()[1]) * 1024
    return size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="as of note_size.py")
    parser.add_argument("--model", default="yolov5s.yaml")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=("trial", "shared"))
    args = parser.parse_args()
    draw(args.folder)
    if args.only != "trial":
        shared(args.folder)
    if args.only != "shared":
        trial(args.folder, args.model, args.steps)


if __name__ == "__main__":
    main()
