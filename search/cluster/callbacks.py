"""What is done when Ray Tune tells of a trial: started, a checkpoint kept, overdue, ended, lost."""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from search.cluster.searcher import WorkSearcher
from search.record.files import RunFiles


class _Unpickled(tune.Callback):  # type: ignore[misc]
    """Ray pickles callbacks into its experiment's folder; nothing of ours must outlive the process."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing."""
        return {}


class Started(_Unpickled):
    """Tells the work when a run really starts: Ray takes one more than fits, to have it ready."""

    def __init__(self, searcher: WorkSearcher) -> None:
        self._searcher = searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        self._searcher.work_started(trial.trial_id)


class EndsOverdue(_Unpickled):
    """Between two events: ends trials that take too long or hang, and Tune itself once nobody waits for it.

    A stock scheduler stops a trial when it reports, which one that hangs never does; its worker is killed.
    """

    def __init__(self, searcher: WorkSearcher) -> None:
        self._searcher = searcher

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune has handled an event, or waited for one in vain."""
        self._searcher.check_left()
        to_kill = self._searcher.to_kill()
        for trial in [trial for trial in trials if trial.trial_id in to_kill]:
            if not to_kill[trial.trial_id]:
                trial.max_failures = 0  # else Tune would run it again
            ray.kill(trial.temporary_state.ray_actor)


class KeepNewest(_Unpickled):
    """Removes a trial's checkpoint once it has a newer one.

    `CheckpointConfig(num_to_keep=1)` would do that too, but it also makes Ray write all trials' state at
    every checkpoint of every trial.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._newest: dict[str, str] = {}  # by Ray's trial id
        # The older one goes when the newer one is safely on the disk: waiting for that holds up nobody.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: list[Future[None]] = []

    @contextmanager
    def tidying(self) -> Iterator[None]:
        """After the context nothing is removed any more."""
        with self._thread:
            yield
        for removed in self._pending:
            removed.result()

    def on_checkpoint(
        self, iteration: int, trials: list[Any], trial: Any, checkpoint: tune.Checkpoint, **info: Any
    ) -> None:
        """A trial has a new checkpoint, already where it stays."""
        newer = checkpoint.path
        older = self._newest.get(trial.trial_id)
        self._newest[trial.trial_id] = newer
        if older is not None and older != newer:
            self._pending = [one for one in self._pending if not one.done() or one.exception() is not None]
            self._pending.append(self._thread.submit(self._files.replace, older, newer))


class CountsFromCheckpoint(tune.Callback):  # type: ignore[misc]
    """Lets a trial lose any number of workers, as long as it gets on: Ray counts failures over its life."""

    def on_checkpoint(
        self, iteration: int, trials: list[Any], trial: Any, checkpoint: tune.Checkpoint, **info: Any
    ) -> None:
        """A trial has a new checkpoint: what was lost before it counts no more."""
        trial.run_metadata.num_failures = 0


class FreesName(tune.Callback):  # type: ignore[misc]
    """Lets a run that has crashed be run again into the same folder.

    Ray names a trial's folder `<key>_1a2b`, where nobody looks for it, while its staging folder of an earlier
    trial of that name exists. With Ray's loggers off it is empty.
    """

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended with an outcome, or before it had a worker, and perhaps such a folder."""
        if Path(trial.local_path).exists():
            shutil.rmtree(trial.local_path)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial was lost for good."""
        shutil.rmtree(trial.local_path)


class SaysNothing(TrialProgressCallback):  # type: ignore[misc]
    """In place of Tune's own, which prints a line of a trial without a result, whatever `verbose` is."""

    def _print(self, msg: str) -> None:
        """The screen is ours."""


class StopsOnError(tune.Stopper):  # type: ignore[misc]
    """Ends all trials once the work has raised; they go on another time."""

    def __init__(self, searcher: WorkSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never one trial alone."""
        return False

    def stop_all(self) -> bool:
        """Whether to end."""
        return self._searcher.error is not None
