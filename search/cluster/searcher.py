"""The bridge from Ray Tune's searcher and scheduler to a queue of work. Decides nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.tune import Stopper
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.cluster.lost import is_everywhere, reason_of
from search.work.protocol import Answer, Work
from spaces.errors import RunError
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
        self.reasons: dict[str, str] = {}  # Ray's trial id -> why Ray gave it up

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
        if EPOCH not in result or self.error is not None:
            return "go on"  # after an error the cluster stops all at once
        try:
            measured = EpochMetrics.model_validate_json(result[EPOCH])
            with self._reaching() as work:
                answer = work.epoch(self._keys[trial_id], measured)
        except Exception as error:
            self.error = error
            return "go on"
        return "go on" if OUTCOME in result else answer

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has left the cluster: with an outcome, lost for good, or stopped by a scheduler.

        After an error nothing more is told: what has finished is found beside its result another time.
        """
        self._started.pop(trial_id, None)
        timeout_s, key = self._timeouts.pop(trial_id), self._keys.pop(trial_id)
        if self.error is not None:
            return
        try:
            with self._reaching() as work:
                if error and trial_id in self._overdue:
                    assert timeout_s is not None
                    work.finish(key, timed_out(key, timeout_s))
                else:
                    _complete(work, key, result or {}, self.reasons[trial_id] if error else None)
        except Exception as raised:
            self.error = raised

    def failed(self, trial_id: str, error: BaseException) -> None:
        """An attempt of a trial was lost; Ray may make another one."""
        self.reasons[trial_id] = reason = reason_of(error)
        if is_everywhere(reason) and self.error is None:
            hint = "every node needs the same rarecall, with what the study's models need; then --resume"
            self.error = RunError(f"a worker could not start: {reason}", hint)

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles a searcher into its experiment's folder; nothing of ours must outlive the process."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study's own record is what a search resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see `save`."""


def _complete(work: Work, key: str, result: dict[str, Any], lost: str | None) -> None:
    """Tell the work; `lost` is what Ray said when it gave a run up."""
    if OUTCOME in result:
        work.finish(key, OUTCOMES.validate_json(result[OUTCOME]))
    elif lost is not None:
        reason = f"worker or node lost, and every retry with it: {lost}"
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

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """An attempt was lost. Ray keeps its error in files alone, as a pickle or as text."""
        if trial.pickled_error_file is not None:
            error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        else:
            error = RunError(Path(trial.error_file).read_text())
        self._searcher.failed(trial.trial_id, error)
        super().on_trial_error(tune_controller, trial)


class StopsOnError(Stopper):  # type: ignore[misc]
    """Ends all trials once the work has raised; they go on another time."""

    def __init__(self, searcher: WorkSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never one trial alone."""
        return False

    def stop_all(self) -> bool:
        """Whether to end."""
        return self._searcher.error is not None
