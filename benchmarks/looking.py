"""What looking at 1,000 trials costs: `pareto` and `report` in fresh processes, and a dashboard's view.

Usage: python benchmarks/looking.py [--trials 1000] [--repeats 5]
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from search.export.page.html import as_json
from search.export.page.view import Asked, view
from search.record.folder import StudyFolder
from search.request.config import StudyConfig
from search.work.search_queue import SearchQueue
from trainables.contract.trial import DataSpec, TrialFolder
from trainables.worker.run import run_trial

COMMAND = str(Path(sys.executable).with_name("rarecall"))
EPOCHS = 15


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = StudyFolder(Path(scratch) / "study")
        fill(folder, Path(scratch), args.trials)
        for command in ("pareto", "report"):
            print(f"{command}: {measured([COMMAND, command, str(folder.path)], args.repeats)}")
        seconds = [refresh(folder) for _ in range(args.repeats)]
        print(
            f"a dashboard's view, anew: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s"
        )


def measured(command: list[str], repeats: int) -> str:
    """Seconds by the clock and of the CPU, and the highest memory so far of any process."""
    wall, cpu = [], []
    for _ in range(repeats):
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - started)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (
        f"median {statistics.median(wall):.2f} s, of the CPU {statistics.median(cpu):.2f} s (least "
        f"{min(cpu):.2f}), {after.ru_maxrss / 1024:.0f} MiB"
    )


def refresh(folder: StudyFolder) -> float:
    """Seconds that a page's content takes."""
    started = time.perf_counter()
    as_json(view(StudyFolder(folder.path), Asked(folder.path)))
    return time.perf_counter() - started


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
