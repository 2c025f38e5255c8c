"""A search without Ray, for tests: its queue driven by hand, trials of the toy run in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.config import StudyConfig
from search.folder import StudyFolder
from search.worklist import SearchWork, Snapshot
from trainables.run import run_trial
from trainables.trial import DataSpec, Outcome, TrialFolder, TrialSpec

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


class Bench:
    """A study in a folder, and a stand-in for the cluster: one run at a time, in this process."""

    def __init__(self, folder: Path, request: StudyConfig) -> None:
        self.folder = StudyFolder(folder / "study")
        self.study = self.folder.create(request, "fingerprint")
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
        root = self.folder.path / "scratch" / f"{len(self.ran)}"
        root.mkdir(parents=True)
        return run_trial(spec, TrialFolder(root), lambda measured: self.work.epoch(spec.key, measured.epoch))

    def run(self, train: Callable[[TrialSpec], Outcome] | None = None, *, at_most: int = 1000) -> None:
        for _ in range(at_most):
            job = self.work.take()
            if job is None:
                break
            self.work.started(job.spec.key)
            self.work.finish(job.spec.key, (train or self.train)(job.spec))
        self.study.flush()
