"""The bridge from Ray Tune's searcher and scheduler to a queue of work. Decides nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.work.protocol import Answer, Work
from trainables.contract.trial import OUTCOMES, EpochMetrics, TrialFailure, timed_out
from trainables.contract.trust import trusts_weights
from trainables.worker.tune_adapter import EPOCH, OUTCOME

LEAVE_WITHIN_S = 3.0  # an ask may take longer; then it ends in a record that is as if the process had died


class Left(BaseException):
    """Nobody waits for Tune any more. No `Exception`: Tune would clean up, and wait for workers to do so."""


class WorkSearcher(Searcher):  # type: ignore[misc]  # Ray is not typed here
    """Hands out the runs of `work` and brings their outcomes back.

    Ray's own OptunaSearch drops constraints, tells low-fidelity values as final ones and leaves trials with
    NaN running for ever; here every trial ends in exactly one call of `finish` or `stopped`.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work
        self._keys: dict[str, str] = {}  # Ray's trial id -> TrialSpec.key
        self._timeouts: dict[str, float | None] = {}  # Ray's trial id -> Job.timeout_s
        self._started: dict[str, float] = {}  # Ray's trial id -> when it got its worker
        self._overdue: set[str] = set()
        self._gate, self._left = threading.Lock(), False
        self.error: Exception | None = None  # what `work` raised; Ray would log it and go on

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Nothing to set: what is searched is not Ray's business."""
        return True

    def leave(self) -> None:
        """From here on nothing reaches the work: Tune ends when it comes by, or is left alone."""
        got = self._gate.acquire(timeout=LEAVE_WITHIN_S)
        self._left = True
        if got:
            self._gate.release()

    @contextmanager
    def _reaching(self) -> Iterator[Work]:
        """The work, while it is waited for."""
        with self._gate:
            if self._left:
                raise Left
            yield self._work

    def check_left(self) -> None:
        """Raise `Left` if nobody waits for Tune any more."""
        if self._left:
            raise Left

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next run, None for not now, or FINISHED."""
        if self.error is not None:
            return Searcher.FINISHED
        try:
            with self._reaching() as work:
                job = work.take()
                exhausted = job is None and work.exhausted()
        except Exception as error:
            self.error = error
            return Searcher.FINISHED
        if job is None:
            return Searcher.FINISHED if exhausted else None
        self._keys[trial_id] = job.spec.key
        self._timeouts[trial_id] = job.timeout_s
        return {
            "spec": job.spec.model_dump(mode="json"),
            "key": job.spec.key,
            "resume": None if job.resume is None else str(job.resume),
            "whole_device": job.whole_device,
            "trust_weights": trusts_weights(),  # beside the spec: it is no part of a run's key
        }

    def work_started(self, trial_id: str) -> None:
        """A trial has a worker."""
        self._started[trial_id] = time.monotonic()
        with self._reaching() as work:
            work.started(self._keys[trial_id])

    def overdue(self) -> set[str]:
        """The trials that have had their worker for longer than they may, each told once."""
        now = time.monotonic()
        late = {
            trial_id
            for trial_id, started in self._started.items()
            if (allowed := self._timeouts[trial_id]) is not None and now - started > allowed
        }
        found = late - self._overdue
        self._overdue |= late
        return found

    def epoch(self, trial_id: str, result: dict[str, Any]) -> Answer:
        """What a run reports after an epoch; whether it is to go on. The last comes with the outcome."""
        if EPOCH not in result:
            return "go on"
        try:
            measured = EpochMetrics.model_validate_json(result[EPOCH])
            with self._reaching() as work:
                answer = work.epoch(self._keys[trial_id], measured)
        except Exception as error:
            self.error = error
            return "stop"
        return "go on" if OUTCOME in result else answer

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has left the cluster: with an outcome, lost for good, or stopped by a scheduler."""
        self._started.pop(trial_id, None)
        timeout_s = self._timeouts.pop(trial_id)
        try:
            with self._reaching() as work:
                key = self._keys.pop(trial_id)
                if error and trial_id in self._overdue:
                    assert timeout_s is not None
                    work.finish(key, timed_out(key, timeout_s))
                else:
                    _complete(work, key, result or {}, error)
        except Exception as raised:
            self.error = raised if self.error is None else self.error

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles a searcher into its experiment's folder; nothing of ours must outlive the process."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study's own record is what a search resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see `save`."""


def _complete(work: Work, key: str, result: dict[str, Any], error: bool) -> None:
    if OUTCOME in result:
        work.finish(key, OUTCOMES.validate_json(result[OUTCOME]))
    elif error:
        reason = "worker or node lost, and every retry with it"
        work.finish(key, TrialFailure(key=key, kind="lost", reason=reason, retry=True))
    else:
        work.stopped(key)


class WorkScheduler(FIFOScheduler):  # type: ignore[misc]
    """Asks the queue after each epoch of a run whether it is to go on; otherwise first come, first served."""

    def __init__(self, searcher: WorkSearcher) -> None:
        super().__init__()
        self._searcher = searcher  # and not the work: Ray pickles its scheduler too

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """An epoch has ended somewhere."""
        answer = self._searcher.epoch(trial.trial_id, result)
        return str(TrialScheduler.STOP if answer == "stop" else TrialScheduler.CONTINUE)
