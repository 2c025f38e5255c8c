"""One Optuna study: the database, which is the truth, and a copy in memory that samplers can read fast."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from spaces.errors import RunError, UsageError


class Writer:
    """Writes to the database one after the other, beside the search: each commit waits for the disk.

    The database is at any time what the search was a moment ago, so a process that dies loses at most its
    last few writes, and those runs go on from their checkpoints. Python waits for pending writes at its exit.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._pending: list[Future[None]] = []

    def write(self, change: Callable[[], None]) -> None:
        """Carry out `change` after all earlier ones.

        Raises:
            RunError: An earlier change failed.
        """
        self._check(wait=False)
        self._pending.append(self._thread.submit(change))

    def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            RunError: Something could not be.
        """
        self._check(wait=True)

    def _check(self, *, wait: bool) -> None:
        while self._pending and (wait or self._pending[0].done()):
            error = self._pending.pop(0).exception()
            if error is not None:
                raise RunError(
                    f"the study's record cannot be written: {error}", "is the disk full?"
                ) from error


def record_names(storage: optuna.storages.RDBStorage, prefix: str) -> list[str]:
    """Names of the Optuna studies in the database that begin with `prefix`, in the order they were made."""
    names = [study.study_name for study in storage.get_all_studies()]
    return [name for name in names if name.startswith(prefix)]


class Record:
    """An Optuna study in the database, and while it is written to, the same in memory.

    A sampler reads all trials several times per ask, and each call on a database trial costs some ten
    queries. So samplers work on the copy in memory, and the database gets what changed.
    """

    def __init__(
        self, storage: optuna.storages.RDBStorage, writer: "Writer", name: str, *, create: bool
    ) -> None:
        """Open the study `name`, or with `create` make it.

        Raises:
            UsageError: There is no such study, or there already is one.
        """
        self._storage = storage
        self._write = writer.write
        try:
            if create:
                self._stored = optuna.create_study(
                    study_name=name, storage=storage, directions=["maximize"] * 2
                )
            else:
                self._stored = optuna.load_study(study_name=name, storage=storage)
        except optuna.exceptions.DuplicatedStudyError:
            hint = "give the study another name, or go on with it with --resume"
            raise UsageError(f"the database already holds a study '{name}'", hint) from None
        except KeyError:
            raise UsageError(f"the database holds no study '{name}'") from None
        self._attrs = dict(self._stored.user_attrs)
        self._live: optuna.Study | None = None
        self._ids: list[int] = []  # in the database, by trial number; once there are writes, the writer's

    @property
    def live(self) -> optuna.Study:
        """The copy in memory; made, with the same numbers, when it is first needed."""
        if self._live is None:
            stored = self._stored.get_trials(deepcopy=False)
            self._live = optuna.create_study(directions=["maximize"] * 2)
            self._live.add_trials(stored)
            self._ids = [trial._trial_id for trial in stored]
        return self._live

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the study as a whole, as last set by this process or found in the database."""
        return self._attrs

    def set_study_attr(self, name: str, value: Any) -> None:
        """Set an attribute of the study as a whole, to plain values."""
        self._attrs[name] = value
        study_id = self._stored._study_id
        self._write(lambda: self._storage.set_study_user_attr(study_id, name, value))

    def trials(self) -> list[FrozenTrial]:
        """All trials by number; not to be changed."""
        study = self._stored if self._live is None else self._live
        return study.get_trials(deepcopy=False)

    def write_new(self, trial: optuna.Trial) -> FrozenTrial:
        """Write a trial that `live` has just asked, with all that it holds by now."""
        frozen = deepcopy(self.trials()[trial.number])  # later attributes are writes of their own
        self._write(lambda: self._insert(frozen))
        return frozen

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial that nobody asked."""
        self.live.add_trial(trial)
        self._write(lambda: self._insert(trial))

    def _insert(self, trial: FrozenTrial) -> None:
        self._ids.append(self._storage.create_new_trial(self._stored._study_id, template_trial=trial))

    def set_attr(self, number: int, name: str, value: str) -> None:
        """Set a user attribute of a running trial."""
        if self._handle(number).user_attrs.get(name) == value:
            return
        self._handle(number).set_user_attr(name, value)
        self._write(lambda: self._storage.set_trial_user_attr(self._ids[number], name, value))

    def tell(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None = None,
        constraints: Mapping[str, float] | None = None,
    ) -> FrozenTrial:
        """End a running trial."""
        handle = self._handle(number)
        written = set(self.trials()[number].system_attrs)  # that is where Optuna keeps constraints
        for name, value in ({} if constraints is None else constraints).items():
            if name not in handle.constraints:  # they are, if an earlier process ended within this call
                handle.set_constraint(name, value)
        told = self.live.tell(number, values, state)
        new = {key: value for key, value in told.system_attrs.items() if key not in written}
        self._write(lambda: self._update(number, new, state, values))
        return told

    def _update(
        self, number: int, system_attrs: dict[str, Any], state: TrialState, values: Sequence[float] | None
    ) -> None:
        trial_id = self._ids[number]
        for key, value in system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, state, values)  # last: from here on it is told

    def _handle(self, number: int) -> optuna.Trial:
        """Optuna's handle of a running trial, also of one asked by an earlier process."""
        self.live.sampler = RandomSampler()  # a new handle asks its sampler for nothing then
        return optuna.Trial(self.live, self.trials()[number]._trial_id)
