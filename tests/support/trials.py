"""One trial, for tests: to its end, killed after an epoch, or in a process of its own."""

import math
import shutil
from pathlib import Path

import pytest

from trainables.contract.trial import EpochMetrics, Outcome, Saves, TrialFolder, TrialReport, TrialSpec
from trainables.worker.run import run_trial

# For a process of its own, given a spec as JSON and a folder: it prints each epoch, then the outcome.
RUN = """
import sys
from pathlib import Path
from trainables.worker.run import run_trial
from trainables.contract.trial import TrialFolder, TrialSpec

spec = TrialSpec.model_validate_json(sys.argv[1])
outcome = run_trial(spec, TrialFolder(Path(sys.argv[2])), lambda measured: print(measured.epoch, flush=True))
print(outcome.model_dump_json())
"""


class Killed(Exception):
    """Stands for the end of a worker."""


class Seldom(Saves):
    """Writes a run's state after the first epoch, and then when it has to."""

    def due(self, *, last: bool) -> bool:
        super().due(last=last)
        self._every_s = math.inf
        return self.fresh


def outcome_of(spec: TrialSpec, root: Path, resume: Path | None = None) -> Outcome:
    root.mkdir(parents=True, exist_ok=True)
    return run_trial(spec, TrialFolder(root, resume), lambda _: None)


def report_of(spec: TrialSpec, root: Path, resume: Path | None = None) -> TrialReport:
    outcome = outcome_of(spec, root, resume)
    assert isinstance(outcome, TrialReport), outcome
    return outcome


def killed_after(epoch: int, spec: TrialSpec, root: Path, saves: Saves | None = None) -> Path:
    """The checkpoint that a run of `spec` leaves when it ends after `epoch`; usually of that very one."""
    root.mkdir()

    def kill(measured: EpochMetrics) -> None:
        if measured.epoch == epoch:
            shutil.copytree(root / "checkpoint", root / "kept")
            raise Killed

    with pytest.raises(Killed):
        run_trial(spec, TrialFolder(root, saves=saves or Saves()), kill)
    return root / "kept"
