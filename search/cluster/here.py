"""Work done in this process, one run at a time: for a debugger, for tests, and where no Ray can start."""

import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from search.cluster.stopping import Stop
from search.record.files import RunFiles
from search.request.computing.resources import Resources
from search.work.allotting import Allotment, Asked
from search.work.protocol import Clock, Job, Launch, Work
from trainables.contract.node import GPUS
from trainables.contract.space import is_out_of_space, out_of_space
from trainables.contract.trial import (
    EpochMetrics,
    OnEpoch,
    Outcome,
    Saves,
    TrialFolder,
    TrialReport,
    TrialSpec,
    timed_out,
)
from trainables.worker.run import run_trial

Train = Callable[[TrialSpec, TrialFolder, OnEpoch], Outcome]


class _Stopped(Exception):
    """The queue has answered an epoch with `stop`."""


class _TimedOut(BaseException):
    """A run has taken too long. No `Exception`: those are outcomes of the run."""


@contextmanager
def _at_most(seconds: float | None) -> Iterator[None]:
    """Raise `_TimedOut` in the context after so long, as soon as Python has control: not in native code."""
    # Only there Python lets signals be handled.
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def overdue(number: int, frame: object) -> None:
        raise _TimedOut

    usual = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """These variables of the environment, and afterwards those that there were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _this_machine() -> dict[str, float]:
    """As of `allotting`."""
    import torch  # noqa: PLC0415  (seconds, for who asks for `auto`)

    return {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}


class Here:
    """A `protocol.Cluster` that is this process.

    A run's checkpoints and result are kept where a cluster keeps them. What a run does to its process (a
    crash, a signal) it does to this one.

    Args:
        train: What carries out a run.
        clock: The time that passes here.
        stop: What ends the work early, and what is said then.
    """

    is_here = True  # see `protocol.Cluster`

    def __init__(
        self, train: Train = run_trial, clock: Clock = time.monotonic, stop: Stop | None = None
    ) -> None:
        self._train = train
        self.clock = clock
        self._stop = Stop() if stop is None else stop
        self._resources = Resources()  # of each run, while connected

    @contextmanager
    def connected(self, asked: Asked, reads: Sequence[str] = ()) -> Iterator[Launch]:
        """See `protocol.Cluster`; the threads of a run are as many as on a cluster.

        One that asks for a share of a GPU has all of it, since no other runs beside it. So there is nothing
        to choose either.
        """
        nodes = [] if isinstance(asked, Resources) else [_this_machine()]
        self._resources = resources = Allotment(asked, nodes).resources
        threads, gpus = max(1, int(resources.cpu)), math.ceil(resources.gpu)
        with _environment({"OMP_NUM_THREADS": str(threads), GPUS: str(gpus)}):
            yield self.launch

    def launch(self, work: Work, files: RunFiles) -> None:
        """A `protocol.Launch`; Ctrl-C ends it, and the run goes on from its checkpoint another time."""
        try:
            with self._stop.heard(raising=True, request=files.stop_request):
                while not self._stop.asked and (job := work.take()) is not None:
                    self._run(job, work, files)
        except KeyboardInterrupt:
            return

    def _run(self, job: Job, work: Work, files: RunFiles) -> None:
        spec = job.spec
        with tempfile.TemporaryDirectory(prefix=f"rarecall-{spec.key}-") as scratch:
            resume = files.at_hand(job.resume, Path(scratch))
            folder = TrialFolder(Path(scratch), resume, Saves(job.checkpoint_s))

            def on_epoch(measured: EpochMetrics) -> None:
                if self._stop.asked:  # and what trains has swallowed the interrupt
                    raise KeyboardInterrupt
                last = measured.epoch == spec.epochs
                if folder.saves.fresh and not last:  # its checkpoint would be replaced at once by the result
                    files.keep(spec.key, folder.checkpoint)
                if work.epoch(spec.key, measured) == "stop" and not last:
                    raise _Stopped

            work.started(spec.key, self._resources)
            try:
                with _at_most(job.timeout_s):
                    outcome = self._train(spec, folder, on_epoch)
                if isinstance(outcome, TrialReport):
                    files.keep(spec.key, folder.result)
            except _Stopped:
                work.stopped(spec.key)
                return
            except _TimedOut:
                assert job.timeout_s is not None
                outcome = timed_out(spec.key, job.timeout_s)
            except OSError as error:
                if not is_out_of_space(error):
                    raise
                outcome = out_of_space(spec.key, error, files.root)
            work.finish(spec.key, outcome)
