"""Work done in this process, one run at a time: for a debugger, for tests, and where no Ray can start."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from search.record.files import RunFiles
from search.request.config import Resources
from search.work.protocol import Clock, Job, Launch, Work
from trainables.contract.trial import EpochMetrics, OnEpoch, Outcome, TrialFolder, TrialReport, TrialSpec
from trainables.worker.run import run_trial

Train = Callable[[TrialSpec, TrialFolder, OnEpoch], Outcome]


class _Stopped(Exception):
    """The queue has answered an epoch with `stop`."""


class Here:
    """A `protocol.Cluster` that is this process.

    A run's checkpoints and result are kept where a cluster keeps them. What a run does to its process (a
    crash, a signal) it does to this one.

    Args:
        train: What carries out a run.
        clock: The time that passes here.
    """

    def __init__(self, train: Train = run_trial, clock: Clock = time.monotonic) -> None:
        self._train = train
        self.clock = clock

    @contextmanager
    def connected(self, resources: Resources) -> Iterator[Launch]:
        """See `protocol.Cluster`; the threads of a run are as many as on a cluster."""
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(resources.cpu)))
        try:
            yield self.launch
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before

    def launch(self, work: Work, files: RunFiles) -> None:
        """A `protocol.Launch`; Ctrl-C ends it, and the run goes on from its last epoch another time."""
        try:
            while (job := work.take()) is not None:
                self._run(job, work, files)
        except KeyboardInterrupt:
            return

    def _run(self, job: Job, work: Work, files: RunFiles) -> None:
        spec = job.spec
        with tempfile.TemporaryDirectory(prefix=f"rarecall-{spec.key}-") as scratch:
            folder = TrialFolder(Path(scratch), job.resume)

            def on_epoch(measured: EpochMetrics) -> None:
                last = measured.epoch == spec.train.epochs
                if not last:  # its checkpoint would be replaced at once by the result
                    files.keep(spec.key, folder.checkpoint)
                if work.epoch(spec.key, measured) == "stop" and not last:
                    raise _Stopped

            work.started(spec.key)
            try:
                outcome = self._train(spec, folder, on_epoch)
            except _Stopped:
                work.stopped(spec.key)
                return
            if isinstance(outcome, TrialReport):
                files.keep(spec.key, folder.result)
            work.finish(spec.key, outcome)
