"""A study without Ray, for tests: its queues worked off in this process, one run of the toy at a time."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.record.folder import StudyFolder
from search.request.config import Resources, StudyConfig
from search.work.protocol import Launch, Work
from search.work.search_queue import SearchWork, Snapshot
from trainables.contract.trial import (
    DataSpec,
    EpochMetrics,
    Outcome,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)
from trainables.worker.run import run_trial
from trainables.worker.toy import describe

DATA = DataSpec(source="demo:toy", minority=("rare",))


def config(**changes: Any) -> StudyConfig:
    request: dict[str, Any] = {
        "name": "toy",
        "task": "toy",
        "data": "demo:toy",
        "minority": ["rare"],
        "train": {"model": "toy", "steps": 20, "eval_every": 10},
        "space": "classification",
        "search": {"trials": 14, "sampler": "tpe"},
    }
    return StudyConfig.model_validate(request | changes)


def train_here(spec: TrialSpec, study: Path, on_epoch: Callable[[EpochMetrics], None]) -> Outcome:
    """Run a trial and leave what it leaves where a cluster would."""
    scratch = study / "scratch"
    scratch.mkdir()
    outcome = run_trial(spec, TrialFolder(scratch), on_epoch)
    kept = study / "trials" / spec.key / "checkpoint_000000"
    if isinstance(outcome, TrialReport) and not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        (scratch / "result").rename(kept)
    shutil.rmtree(scratch)
    return outcome


class Here:
    """A `cluster.work.Cluster` that is this process.

    Args:
        at_most: So many runs, and then it ends as after Ctrl-C.
        instead: What comes back of a run without training it, or None to train it.
    """

    def __init__(
        self, *, at_most: int = 1000, instead: Callable[[TrialSpec], Outcome | None] = lambda spec: None
    ) -> None:
        self.at_most, self.instead = at_most, instead
        self.ran: list[TrialSpec] = []
        self.connections = 0

    @contextmanager
    def connected(self, resources: Resources) -> Iterator[Launch]:
        self.connections += 1
        yield self.launch

    def launch(self, work: Work, folder: Path) -> None:
        while len(self.ran) < self.at_most and (job := work.take()) is not None:
            self.ran.append(spec := job.spec)
            work.started(spec.key)

            def on_epoch(measured: EpochMetrics, key: str = spec.key) -> None:
                work.epoch(key, measured.epoch)

            outcome = self.instead(spec)
            work.finish(spec.key, train_here(spec, folder, on_epoch) if outcome is None else outcome)


def failure(spec: TrialSpec, kind: Any = "error") -> TrialFailure:
    return TrialFailure(key=spec.key, kind=kind, reason=f"told to end as {kind}")


class Bench:
    """A study in a folder, and the queue of its search."""

    def __init__(self, folder: Path, request: StudyConfig) -> None:
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

    def fresh_work(self) -> SearchWork:
        return SearchWork(self.study, self.folder, DATA, self.snapshots.append)

    def train(self, spec: TrialSpec) -> Outcome:
        self.ran.append(spec)
        return train_here(spec, self.folder.path, lambda measured: self.work.epoch(spec.key, measured.epoch))

    def run(self, train: Callable[[TrialSpec], Outcome] | None = None, *, at_most: int = 1000) -> None:
        Here(at_most=at_most, instead=train or self.train).launch(self.work, self.folder.path)
        self.study.flush()
