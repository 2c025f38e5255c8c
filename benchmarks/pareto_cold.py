"""How long `rarecall pareto` takes on a study of 1,000 trials, in a fresh process.

Usage: python benchmarks/pareto_cold.py [--trials 1000] [--repeats 5]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from search.record.folder import StudyFolder
from search.request.config import StudyConfig
from search.work.search_queue import SearchQueue
from trainables.contract.trial import DataSpec, TrialFolder
from trainables.worker.run import run_trial

EPOCHS = 15


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = StudyFolder(Path(scratch) / "study")
        fill(folder, Path(scratch), args.trials)
        command = [Path(sys.executable).with_name("rarecall"), "pareto", str(folder.path)]
        seconds = []
        for _ in range(args.repeats):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    print(f"pareto of {args.trials} trials: median {median:.2f} s, worst {max(seconds):.2f} s")


def fill(folder: StudyFolder, scratch: Path, trials: int) -> None:
    """Run a search over the toy in this process, without Ray."""
    config = StudyConfig.model_validate(
        {
            "name": "toy",
            "task": "toy",
            "data": "demo:toy",
            "minority": ["rare"],
            "train": {"model": "toy", "steps": EPOCHS, "eval_every": 1},
            "space": "classification",
            "search": {"trials": trials, "sampler": "random"},
        }
    )
    data = DataSpec(source="demo:toy", minority=("rare",))
    study = folder.create(config, "", data.minority)
    work = SearchQueue(study, folder.files, data, lambda snapshot: None, time.monotonic)
    while (job := work.take()) is not None:
        with tempfile.TemporaryDirectory(dir=scratch) as root:
            work.finish(job.spec.key, run_trial(job.spec, TrialFolder(Path(root)), lambda measured: None))


if __name__ == "__main__":
    main()
