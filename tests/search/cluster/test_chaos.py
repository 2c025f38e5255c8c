"""Everything that can happen to a search, one after the other: afterwards nothing is lost, or done twice."""

import contextlib
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
import yaml
from in_process import DATA
from small_disk import Disk

from search.record.folder import StudyFolder
from trainables.contract.trial import OnEpoch, TrialFolder, TrialReport, TrialSpec
from trainables.worker.run import run_trial

TRIALS, SEEDS, KILLS = 20, 3, 10
REQUEST = {
    "name": "toy",
    "task": "toy",
    "data": "demo:toy",
    "minority": ["rare"],
    "train": {"model": "toy:sleep=0.2", "steps": 80, "eval_every": 10},
    "space": "classification",
    "search": {"trials": TRIALS, "sampler": "random", "checkpoint_s": 0},
    "baseline": {"seeds": SEEDS},
}
COMMAND = [sys.executable, "-c", "import sys; from rarecall.command import main; sys.exit(main())"]
PATIENCE_S = 120.0  # for what has to happen; all of it takes some minutes


class Driver:
    """`rarecall search`, as a process of its own, with two workers."""

    def __init__(self, study: Path, runs: Path) -> None:
        resume = ["--resume"] if (runs / "toy" / "study.yaml").exists() else []
        self.runs, self.log = runs, study.with_suffix(".log")
        self.began = time.time()
        with self.log.open("a") as log:
            self.process = psutil.Popen(
                [*COMMAND, "search", str(study), "--runs", str(runs), *resume], stdout=log, stderr=log
            )

    def family(self) -> list[psutil.Process]:
        """All processes that it has started, and theirs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return list(self.process.children(recursive=True))
        return []

    def named(self, name: str) -> list[psutil.Process]:
        found = []
        for one in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [one] if name in " ".join(one.cmdline()[:1]) else []
        return found

    def trains(self) -> bool:
        """Whether a run has got a step further since this process began."""
        return max(there(self.runs, "progress.json").values(), default=0.0) > self.began

    def wait_until(self, happened: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not happened() and self.process.poll() is None:
            assert time.monotonic() < limit, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def ended(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code; the processes it has left behind are gone afterwards."""
        family = self.family()
        try:
            return int(self.process.wait(within_s))
        except psutil.TimeoutExpired:
            self.killed(orphans_live_s=0)
            pytest.fail(f"it does not end: {self.log.read_text()[-2000:]}")
        finally:
            self.bury(family)

    def killed(self, orphans_live_s: float) -> None:
        """As by the system, for want of memory."""
        family = self.family()
        self.process.kill()
        self.process.wait()
        time.sleep(orphans_live_s)
        self.bury(family)

    def bury(self, family: list[psutil.Process]) -> None:
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family, timeout=10)


def there(runs: Path, name: str) -> dict[Path, float]:
    """Files of that name in checkpoints, and when each was written; a worker may remove them meanwhile."""
    found = {}
    for path in (runs / "toy" / "trials").glob(f"*/checkpoint_*/{name}"):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime
    return found


def truncate_newest(runs: Path, rng: np.random.Generator) -> bool:
    """Cut a file of the newest checkpoint in half, if there is a checkpoint."""
    checkpoints = there(runs, "progress.json")
    if not checkpoints:
        return False
    newest = max(checkpoints, key=checkpoints.__getitem__)
    files = sorted(path for path in newest.parent.iterdir() if path.is_file())
    chosen = files[rng.integers(len(files))]
    os.truncate(chosen, chosen.stat().st_size // 2)
    return True


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", "8m")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def drive(tmp_path: Path, disk: Disk) -> Iterator[Callable[[], Driver]]:
    """Starts or continues the search; one that still runs when the test ends, or fails, is killed."""
    started: list[Driver] = []

    def start() -> Driver:
        started.append(Driver(tmp_path / "study.yaml", disk.root / "runs"))
        return started[-1]

    yield start
    for driver in started:
        if driver.process.poll() is None:
            driver.killed(orphans_live_s=0)


def alone(spec: TrialSpec, scratch: Path) -> TrialReport:
    """The report of a run that nothing happens to."""
    scratch.mkdir()
    quiet: OnEpoch = lambda measured: None  # noqa: E731
    plain = spec.model_copy(update={"train": spec.train.model_copy(update={"model": "toy"})})
    report = run_trial(plain, TrialFolder(scratch), quiet)
    assert isinstance(report, TrialReport)
    return report


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_search_that_everything_happens_to(disk: Disk, drive: Callable[[], Driver], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = disk.root / "runs"
    (tmp_path / "study.yaml").write_text(
        yaml.safe_dump(REQUEST | {"resources": {"cpu": psutil.cpu_count() / 2}})
    )

    # The driver is killed ten times; twice the newest checkpoint is cut before it goes on.
    to_cut = 2
    for _ in range(KILLS):
        driver = drive()
        driver.wait_until(driver.trains)
        time.sleep(rng.uniform(0, 1))
        driver.killed(orphans_live_s=rng.uniform(0, 0.5))
        if to_cut and truncate_newest(runs, rng):
            to_cut -= 1
    assert to_cut == 0

    # The disk fills up, and is enlarged.
    driver = drive()
    driver.wait_until(driver.trains)
    disk.fill()
    assert driver.ended() == 3
    # Who meets it first, the record, a run's files or the driver's own, is chance.
    assert re.search("no space left|the disk is full", driver.log.read_text().splitlines()[-2:][0])
    disk.enlarge()

    # Every worker is killed as soon as it is seen, until their runs are given up or the search is.
    driver = drive()
    limit = time.monotonic() + 20
    while driver.process.poll() is None and time.monotonic() < limit:
        for worker in driver.named("ray::ImplicitFunc"):
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        time.sleep(0.02)
    driver.killed(orphans_live_s=0)

    # Ray's own process on this machine is killed.
    driver = drive()
    driver.wait_until(driver.trains)
    (raylet,) = driver.named("raylet/raylet")
    raylet.kill()
    began = time.monotonic()
    assert driver.ended() == 3
    assert time.monotonic() - began < 120

    assert drive().ended(within_s=4 * PATIENCE_S) in {0, 1}

    # One terminal state each, none twice, the number asked for, none running.
    folder = StudyFolder(runs / "toy")
    opened = folder.open()
    trials, baseline = opened.trials(), opened.baseline_trials()
    assert [trial.state for trial in trials] == ["complete"] * TRIALS
    assert [trial.seed for trial in baseline if trial.report is not None] == list(range(SEEDS))
    keys = Counter(trial.report.key for trial in trials if trial.report is not None)
    assert set(keys.values()) == {1}
    for name in ("search", "baseline"):
        stored = optuna.load_study(
            study_name=f"toy/{name}", storage=f"sqlite:///{runs / 'toy' / 'study.db'}"
        ).get_trials()
        assert "RUNNING" not in {trial.state.name for trial in stored}

    # What came of each run is what comes of it alone.
    for trial in [*trials, *baseline]:
        if trial.report is None:  # a seed that was lost, and made once more as another entry
            continue
        spec = opened.config.spec(trial.strategy, DATA, seed=trial.seed)
        assert spec.key == trial.report.key
        assert trial.report.metrics == alone(spec, tmp_path / spec.key).metrics
