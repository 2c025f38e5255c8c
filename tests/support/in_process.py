"""A study without Ray, for tests: its queues worked off in this process, one run of the toy at a time."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.cluster import here
from search.record.files import RunFiles
from search.record.folder import StudyFolder
from search.record.stored import decisive
from search.request.config import StudyConfig
from search.work.allotting import Asked
from search.work.protocol import Clock, Launch, Work
from search.work.search_queue import SearchQueue, Snapshot
from trainables.contract.trial import (
    DataSpec,
    EpochMetrics,
    OnEpoch,
    Outcome,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)
from trainables.data.demo.toy import describe
from trainables.worker.run import run_trial

DATA = DataSpec(source="demo:toy", minority=("rare",))


def config(**changes: Any) -> StudyConfig:
    """A request for the toy, which unless said otherwise keeps a checkpoint of every epoch."""
    request: dict[str, Any] = {
        "name": "toy",
        "task": "toy",
        "data": "demo:toy",
        "minority": ["rare"],
        "train": {"model": "toy", "steps": 20, "eval_every": 10},
        "space": "classification",
        "search": {"trials": 14, "sampler": "tpe"},
    }
    request |= changes
    return StudyConfig.model_validate(request | {"search": {"checkpoint_s": 0} | request["search"]})


def train_here(spec: TrialSpec, files: RunFiles, on_epoch: OnEpoch) -> Outcome:
    """Run a trial and leave its result where a cluster would."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = TrialFolder(Path(scratch))
        outcome = run_trial(spec, folder, on_epoch)
        if isinstance(outcome, TrialReport):
            files.keep(spec.key, folder.result)
    return outcome


class Here(here.Here):
    """The shipped in-process cluster, which can end early and make up outcomes.

    Args:
        at_most: So many runs, and then it ends as after Ctrl-C.
        instead: What comes back of a run without training it, or None to train it.
    """

    def __init__(
        self, *, at_most: int = 1000, instead: Callable[[TrialSpec], Outcome | None] = lambda spec: None
    ) -> None:
        super().__init__()
        self.at_most, self.instead = at_most, instead
        self.ran: list[TrialSpec] = []
        self.connections = 0

    @contextmanager
    def connected(self, asked: Asked, reads: Sequence[str] = ()) -> Iterator[Launch]:
        self.connections += 1
        with super().connected(asked) as launch:
            yield launch

    def launch(self, work: Work, files: RunFiles) -> None:
        while len(self.ran) < self.at_most and (job := work.take()) is not None:
            self.ran.append(job.spec)
            outcome = self.instead(job.spec)
            if outcome is None:
                self._run(job, work, files)
            else:
                work.started(job.spec.key, self._resources)
                work.finish(job.spec.key, outcome)


def failure(spec: TrialSpec, kind: Any = "error") -> TrialFailure:
    return TrialFailure(key=spec.key, kind=kind, reason=f"told to end as {kind}")


class Bench:
    """A study in a folder, and the queue of its search; `clock` is the time that passes there."""

    def __init__(self, folder: Path, request: StudyConfig, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.folder = StudyFolder(folder / "study")
        self.study = self.folder.create(request, describe().fingerprint, DATA.minority)
        self.snapshots: list[Snapshot] = []
        self.ran: list[TrialSpec] = []
        self.work = self.fresh_work()

    def reopen(self) -> None:
        """As another process would find the study."""
        self.study.flush()
        self.study = self.folder.open()
        self.work = self.fresh_work()

    def fresh_work(self) -> SearchQueue:
        return SearchQueue(self.study, self.folder.files, DATA, self.snapshots.append, self.clock)

    def tell(self, spec: TrialSpec, measured: EpochMetrics) -> None:
        assert self.work.epoch(spec.key, measured) == "go on"

    def train(self, spec: TrialSpec) -> Outcome:
        self.ran.append(spec)
        return train_here(spec, self.folder.files, lambda measured: self.tell(spec, measured))

    def run(self, train: Callable[[TrialSpec], Outcome] | None = None, *, at_most: int = 1000) -> None:
        Here(at_most=at_most, instead=train or self.train).launch(self.work, self.folder.files)
        self.study.flush()


def as_stored(outcome: Outcome) -> Outcome:
    """What the database keeps of an outcome of the toy, all of whose metrics are kept."""
    return decisive(outcome, (), ())
