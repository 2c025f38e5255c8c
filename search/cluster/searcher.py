"""The bridge from Ray Tune's searcher and scheduler to a queue of work. Decides nothing."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.cluster.lost import is_everywhere, is_node_lost, lacking_on_node, reason_of
from search.cluster.room import Grown, runs_at_once
from search.request.computing.resources import Resources
from search.work.allotting import Allotment
from search.work.protocol import Answer, Work
from spaces.errors import RunError
from trainables.contract.node import Used
from trainables.contract.trial import OUTCOMES, EpochMetrics, TrialFailure, timed_out
from trainables.contract.trust import trusts_weights
from trainables.data.staging.staged import seen
from trainables.worker.tune_adapter import EPOCH, OUTCOME, USED

MAX_NODES_LOST = 20  # of a trial, after which it might be what brings them down
HUNG_TWICE = "it hung twice: it reported nothing for ten times as long as others, nor did a second worker"
LEAVE_WITHIN_S = 3.0  # an ask may take longer; then it ends in a record that is as if the process had died


class Left(BaseException):
    """Nobody waits for Tune any more. No `Exception`: Tune would clean up, and wait for workers to do so."""


class WorkSearcher(Searcher):  # type: ignore[misc]  # Ray is not typed here
    """Hands out the runs of `work` and brings their outcomes back.

    Ray's own OptunaSearch drops constraints, tells low-fidelity values as final ones and leaves trials with
    NaN running for ever; here every trial ends in exactly one call of `finish` or `stopped`.
    """

    def __init__(
        self,
        work: Work,
        allotment: Allotment,
        grown: Grown | None = None,
        *,
        patience_s: float = 0.0,
        root: str = "",
    ) -> None:
        """Hand out `work`; while the first run is measured for what the others get, no other.

        Of a cluster that grows, never more than one run beyond those that it can hold: a search learns as it
        goes. A worker tries for `patience_s` to leave what it has on a storage that is away; `root` is the
        folder of all runs there.
        """
        super().__init__()
        self._work, self._allotment, self._grown = work, allotment, grown
        self._patience_s, self._root = patience_s, root
        self._keys: dict[str, str] = {}  # Ray's trial id -> TrialSpec.key
        self._resources: dict[str, Resources] = {}  # Ray's trial id -> what it occupies
        self._timeouts: dict[str, float | None] = {}  # Ray's trial id -> Job.timeout_s
        self._started: dict[str, float] = {}  # Ray's trial id -> when it got its worker
        self._hung: set[str] = set()  # Ray's ids of trials that have hung once
        self._ended: dict[str, TrialFailure] = {}  # Ray's trial id -> why its worker was killed, for good
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
        if self._allotment.measures and self._keys:
            return None
        at_once = runs_at_once(self._grown, self._allotment.resources)
        if at_once is not None and len(self._keys) > at_once:
            return None
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
        self._resources[trial_id] = self._allotment.resources
        self._timeouts[trial_id] = job.timeout_s
        return {
            "spec": job.spec.model_dump(mode="json"),
            "key": job.spec.key,
            "resume": None if job.resume is None else str(job.resume),
            "whole_device": job.whole_device,
            "resources": self._allotment.resources.model_dump(),
            "measure": self._allotment.measures,
            "checkpoint_s": job.checkpoint_s,
            "patience_s": self._patience_s,
            "place": f"{self._root}/{job.spec.key}",
            "trust_weights": trusts_weights(),  # beside the spec: it is no part of a run's key
            "seen": seen(),  # likewise
        }

    def work_started(self, trial_id: str) -> None:
        """A trial has a worker."""
        self._started[trial_id] = time.monotonic()
        with self._reaching() as work:
            work.started(self._keys[trial_id], self._resources[trial_id])

    def to_kill(self) -> dict[str, bool]:
        """The trials whose worker is to be killed, each told once, and whether another may go on with it.

        One that has had its worker for longer than it may is ended; one that hangs may try once more.
        """
        now = time.monotonic()
        found = {}
        for trial_id, started in self._started.items():
            allowed = self._timeouts[trial_id]
            if allowed is not None and now - started > allowed:
                self._ended[trial_id] = timed_out(self._keys[trial_id], allowed)
                found[trial_id] = False
        with self._reaching() as work:
            hung = work.hung()
        for trial_id in self._started.keys() - found if hung else ():
            key = self._keys[trial_id]
            if key in hung:
                found[trial_id] = trial_id not in self._hung
                if trial_id in self._hung:
                    self._ended[trial_id] = TrialFailure(key=key, kind="timeout", reason=HUNG_TWICE)
                self._hung.add(trial_id)
        for trial_id in found:
            del self._started[trial_id]  # it has no worker
        return found

    def epoch(self, trial_id: str, result: dict[str, Any]) -> Answer:
        """What a run reports after an epoch; whether it is to go on. The last comes with the outcome."""
        if EPOCH not in result or self.error is not None:
            return "go on"  # after an error the cluster stops all at once
        try:
            measured = EpochMetrics.model_validate_json(result[EPOCH])
            with self._reaching() as work:
                if USED in result:
                    self._allotment.used(Used.model_validate_json(result[USED]))
                answer = work.epoch(self._keys[trial_id], measured)
        except Exception as error:
            self.error = error
            return "go on"
        return "go on" if OUTCOME in result else answer

    def over(self) -> bool:
        """As of `Work`; after an error the cluster stops all at once."""
        if self.error is not None:
            return False
        with self._reaching() as work:
            return work.over()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has left the cluster: with an outcome, lost for good, or stopped by a scheduler.

        After an error nothing more is told: what has finished is found beside its result another time.
        """
        self._started.pop(trial_id, None)
        self._timeouts.pop(trial_id)
        self._resources.pop(trial_id)
        ended, key = self._ended.pop(trial_id, None), self._keys.pop(trial_id)
        if self.error is not None:
            return
        try:
            with self._reaching() as work:
                if error and ended is not None:
                    work.finish(key, ended)
                else:
                    _complete(work, key, result or {}, self.reasons[trial_id] if error else None)
        except Exception as raised:
            self.error = raised

    def failed(self, trial_id: str, error: BaseException) -> None:
        """An attempt of a trial was lost; Ray may make another one."""
        self._started.pop(trial_id, None)
        with self._reaching() as work:
            work.lost(self._keys[trial_id])
        self.reasons[trial_id] = reason = reason_of(error)
        lacking = lacking_on_node(reason)
        if lacking is not None and self.error is None:  # else it would fail one run after the other
            hint = "every node has to see it: mend that node or end it; nothing is lost, go on with --resume"
            self.error = RunError(lacking, hint)
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
        self._nodes_lost = Counter[str]()  # by Ray's trial id

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Called before anything starts: of what Tune has ready nothing does once the work is over."""
        if self._searcher.over():
            for trial in tune_controller.get_trials():
                if trial.status == Trial.PENDING:
                    tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)

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
        if is_node_lost(error) and self._nodes_lost[trial.trial_id] < MAX_NODES_LOST:
            self._nodes_lost[trial.trial_id] += 1
            trial.run_metadata.num_failures -= (
                1  # no fault of the run's; a notice beforehand Ray does not count
            )
        super().on_trial_error(tune_controller, trial)
