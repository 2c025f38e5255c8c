"""One Optuna study: the database, which is the truth, and a copy in memory that samplers can read fast."""

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.record.connection import Database
from search.record.stored import packed, unpacked
from search.request.computing.budget import Spent
from spaces.errors import RarecallError, RunError, UsageError

SPENT = "spent"  # attribute of an Optuna study


class Writer:
    """Writes to the database one after the other, beside the search: each commit waits for the disk.

    The database is at any time what the search was a moment ago, so a process that dies loses at most its
    last few writes, and those runs go on from their checkpoints. Python waits for pending writes at its exit.
    After one that failed nothing is written any more: a record with a gap would be another study's.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._pending: list[Future[None]] = []
        self._failure: RunError | None = None
        self.beside: Callable[[], None] = lambda: None  # checked with it, as of `Study.also_check`

    def write(self, change: Callable[[], None]) -> None:
        """Carry out `change` after all earlier ones.

        Raises:
            RunError: An earlier change failed; this one is not made.
        """
        self.check()
        self._pending = [one for one in self._pending if not one.done()]
        self._pending.append(self._thread.submit(self._carry_out, change))

    def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            RunError: Something could not be.
        """
        wait(self._pending)
        self.check()

    def check(self) -> None:
        """Waits for nothing.

        Raises:
            RunError: A change failed.
        """
        if self._failure is not None:
            raise RunError(self._failure.message, self._failure.hint)
        self.beside()

    def _carry_out(self, change: Callable[[], None]) -> None:
        """In the writing thread."""
        if self._failure is not None:
            return  # whoever wrote it is told by the next `write`, `flush` or `check`
        try:
            change()
        except RarecallError as error:
            self._failure = RunError(f"the study's record cannot be written: {error.message}", error.hint)
        except Exception as error:
            self._failure = RunError(f"the study's record cannot be written: {error!r}")


def record_names(database: Database, prefix: str) -> list[str]:
    """Names of the Optuna studies in the database that begin with `prefix`, in the order they were made."""
    with database.told():
        names = [study.study_name for study in database.storage.get_all_studies()]
    return [name for name in names if name.startswith(prefix)]


def delete_records(database: Database, names: Sequence[str]) -> None:
    """Take the Optuna studies of these names out of the database."""
    with database.told():
        for name in names:
            database.storage.delete_study(database.storage.get_study_id_from_name(name))


@contextmanager
def without_collecting() -> Iterator[None]:
    """What is read within the context is kept: to look for garbage in it took a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Record:
    """An Optuna study in the database, and while it is written to, the same in memory.

    A sampler reads all trials several times per ask, and each call on a database trial costs some ten
    queries. So samplers work on the copy in memory, and the database gets what changed.
    """

    def __init__(
        self, database: Database, writer: Writer, name: str, objectives: Sequence[str], *, create: bool
    ) -> None:
        """Open the study `name`, or with `create` make it with these objectives.

        Raises:
            UsageError: There is no such study, or there already is one.
            RunError: The database cannot be read.
        """
        self._database, self._storage = database, database.storage
        self._write, self.check_written = writer.write, writer.check
        with database.told():
            self._stored = _stored(database, name, objectives, create=create)
            self._attrs = dict(self._stored.user_attrs)
        self._live: optuna.Study | None = None
        self._ids: dict[int, int] = {}  # trial number -> in the database; the writer's once there are writes

    @property
    def live(self) -> optuna.Study:
        """The copy in memory; made, with the same numbers, when it is first needed."""
        if self._live is None:
            with self._database.told():
                stored = self._stored.get_trials(deepcopy=False)
            numbers = [trial.number for trial in stored]
            if numbers != list(range(len(stored))):  # the copy counts by itself
                raise RunError(f"{self._database.name} is damaged: its trials have the numbers {numbers}")
            self._live = optuna.create_study(directions=["maximize"] * 2)
            self._live.add_trials(stored)
            self._ids = {trial.number: trial._trial_id for trial in stored}
        return self._live

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the study as a whole, as last set by this process or found in the database."""
        return self._attrs

    def set_study_attr(self, name: str, value: Any) -> None:
        """Set an attribute of the study as a whole, to plain values."""
        self._attrs[name] = value
        study_id = self._stored._study_id
        self._change(lambda: self._storage.set_study_user_attr(study_id, name, value))

    @property
    def spent(self) -> Spent | None:
        """What its runs took, as last kept; None if nothing was."""
        return None if SPENT not in self._attrs else unpacked(Spent, self._attrs[SPENT])

    def keep_spent(self, spent: Spent) -> None:
        """Keep what its runs took so far, all together."""
        self.set_study_attr(SPENT, packed(spent))

    def trials(self) -> list[FrozenTrial]:
        """All trials by number; not to be changed."""
        if self._live is not None:
            return self._live.get_trials(deepcopy=False)
        with self._database.told(), without_collecting():
            return self._stored.get_trials(deepcopy=False)

    def _change(self, change: Callable[[], None]) -> None:
        """Have the writer change the database."""

        def told() -> None:
            with self._database.told():
                change()

        self._write(told)

    def write_new(self, trial: optuna.Trial) -> FrozenTrial:
        """Write a trial that `live` has just asked, with all that it holds by now."""
        frozen = deepcopy(self.trials()[trial.number])  # later attributes are writes of their own
        self._change(lambda: self._insert(frozen))
        return frozen

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial that nobody asked."""
        self.live.add_trial(trial)
        numbered = deepcopy(self.trials()[-1])
        self._change(lambda: self._insert(numbered))

    def _insert(self, trial: FrozenTrial) -> None:
        """Insert a trial, which the database numbers by itself.

        Raises:
            RunError: It gave, or would give, another number: the trials there are not those here.
        """
        trial_id = None
        if self._id_of(trial.number) is None:  # asked first, to leave the other writer's count alone
            trial_id = self._storage.create_new_trial(self._stored._study_id, template_trial=trial)
        if trial_id is None or self._id_of(trial.number) != trial_id:
            raise RunError(
                f"the number of trial {trial.number} is another's there: another process writes to it",
                "end that one; --resume goes on with what is stored",
            )
        self._ids[trial.number] = trial_id

    def _id_of(self, number: int) -> int | None:
        """Of the trial that has this number in the database; None if none has."""
        try:
            return self._storage.get_trial_id_from_study_id_trial_number(self._stored._study_id, number)
        except KeyError:
            return None

    def set_attr(self, number: int, name: str, value: str) -> None:
        """Set a user attribute of a running trial."""
        if self._handle(number).user_attrs.get(name) == value:
            return
        self._handle(number).set_user_attr(name, value)
        self._change(lambda: self._storage.set_trial_user_attr(self._ids[number], name, value))

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
        self._change(lambda: self._update(number, new, state, values))
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


def _stored(database: Database, name: str, objectives: Sequence[str], *, create: bool) -> optuna.Study:
    """The Optuna study `name`; as of `Record`."""
    try:
        if create:
            made = optuna.create_study(study_name=name, storage=database.storage, directions=["maximize"] * 2)
            with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
                made.set_metric_names(list(objectives))  # for whoever opens it with Optuna
            return made
        return optuna.load_study(study_name=name, storage=database.storage)
    except optuna.exceptions.DuplicatedStudyError:
        hint = "give the study another name, or go on with it with --resume"
        raise UsageError(f"the database already holds a study '{name}'", hint) from None
    except KeyError:
        raise UsageError(f"the database {database.name} holds no study '{name}'") from None
