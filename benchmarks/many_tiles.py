"""100,000 tiles of 640 px: `rarecall check`, and how long a trial takes to its first step.

    RARECALL_CACHE=/tmp/cache python benchmarks/many_tiles.py /tmp/many [--distinct 2000 --links 50]

So many tiles are drawn as `note_size.py` draws them, and linked (hard links) under so many names; labels are
files of their own. Bars: `check` 10 min and 2 GiB, again 60 s; 20 s from a trial's start to its first step,
with labels and headers known and no room for decoded pixels (RARECALL_CACHE_GB=0).
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import note_size
import numpy as np
import yaml
from note_size import SIDE, STUDY, check, every_slide, write_split

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
# A trial in a process of its own, that ends at its first step.
FIRST_STEP = """
import sys, tempfile, time
from pathlib import Path
started = time.perf_counter()
from spaces.strategy import PLAIN, NAMED
from trainables.contract.trial import DataSpec, TrainSpec, TrialFolder, TrialSpec
from trainables.detector.strategy_run import StrategyRun
from trainables.worker.run import run_trial
imported = time.perf_counter()
class Enough(BaseException): pass
def enough(run): raise Enough
StrategyRun.optimizer_step = enough
spec = TrialSpec(
    task="detection", strategy=NAMED[sys.argv[2]], seed=0,
    data=DataSpec(source=sys.argv[1], minority=("cluster",)),
    train=TrainSpec(model="yolo_tiny.yaml", imgsz=640, batch=4, steps=1, eval_every=1),
)
try:
    run_trial(spec, TrialFolder(Path(tempfile.mkdtemp())), print)
except Enough:
    done = time.perf_counter()
    print(f"{sys.argv[2]}: first step {done - imported:.1f} s after the trial's start, "
          f"and {imported - started:.1f} s of imports before it")
"""


def draw(folder: Path, distinct: int, links: int) -> None:
    """The data set and a study of it, unless they are there."""
    if (folder / "study.yaml").is_file():
        return
    slides = every_slide()
    for number, (split, share) in enumerate(SHARES.items()):
        write_split(folder, split, slides, round(share * distinct), np.random.default_rng((2, number)))
        for kind in ("images", "labels"):
            link(folder / kind / split, links, copied=kind == "labels")
    described: dict[str, Any] = {split: f"images/{split}" for split in SHARES}
    described["names"] = list(note_size.CLASSES)
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    study = {**STUDY, "data": str((folder / "data.yaml").resolve())}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def link(folder: Path, links: int, *, copied: bool) -> None:
    """Each file of a folder under so many names."""
    files = sorted(folder.iterdir())
    for number in range(1, links):
        place = folder / f"{number:03}"
        place.mkdir()
        for file in files:
            if copied:
                (place / file.name).write_bytes(file.read_bytes())
            else:
                os.link(file, place / file.name)


def first_step(folder: Path) -> None:
    """Plain and weighted: the one draws in passes, the other by weights."""
    for name in ("plain", "weighted"):
        command = [sys.executable, "-c", FIRST_STEP, str((folder / "data.yaml").resolve()), name]
        done = subprocess.run(
            command, env={**os.environ, "RARECALL_CACHE_GB": "0"}, check=True, capture_output=True, text=True
        )
        print(done.stdout.strip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the data set; it is kept")
    parser.add_argument("--distinct", type=int, default=2000)
    parser.add_argument("--links", type=int, default=50)
    args = parser.parse_args()
    started = time.perf_counter()
    draw(args.folder, args.distinct, args.links)
    print(f"drawn in {time.perf_counter() - started:.0f} s, {SIDE} px")
    check(args.folder)
    first_step(args.folder)


if __name__ == "__main__":
    main()
