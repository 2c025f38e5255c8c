"""Where a study keeps its files: study.yaml, provenance.json, splits.csv, study.db, trials/, export/."""

import csv
import fcntl
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Literal, TextIO
from urllib.parse import quote

import yaml
from pydantic import Field

from search.record.away import TRIALS, StoredFiles
from search.record.connection import SAVED, Access
from search.record.experiments import now
from search.record.files import RunFiles
from search.record.storage.address import mirrored, named
from search.record.storage.lease import is_own
from search.record.storage.locks import locked
from search.record.storage.mirror import DATABASE, Copying, ask_to_stop, bring, brought, copying
from search.record.storage.remote import Remote
from search.record.stored import packed, unpacked
from search.record.study import Study
from search.request.config import StudyConfig
from search.request.reading import load_config
from spaces.errors import RunError, UsageError
from spaces.frozen import Frozen
from trainables.contract.tasks import TASKS
from trainables.storage.reading import ANSWERS_S

LOCK = ".lock"
PACKAGES = ("rarecall", "ray", "optuna", "torch", "ultralytics", "albumentations", "numpy")


class Provenance(Frozen):
    """What a study ran with.

    Attributes:
        created: When it was made; ISO 8601, UTC.
        python: Its version.
        versions: Of the packages that decide its numbers.
        git_sha: Commit of the folder that it was made in, or None outside of a repository.
        data_fingerprint: Of its data.
        minority: The minority classes, by name; `auto` in the request means these.
        evaluator: Version of how its task's metrics are measured.
        request: `StudyConfig.fixed` of its request; empty of a study that an earlier version made.
    """

    created: str
    python: str
    versions: dict[str, str]
    git_sha: str | None
    data_fingerprint: str
    minority: tuple[str, ...]
    evaluator: int = 1
    request: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def now(cls, fingerprint: str, minority: Sequence[str], config: StudyConfig) -> "Provenance":
        """Of this process."""
        return cls(
            created=now(),
            python=platform.python_version(),
            versions={name: metadata.version(name) for name in PACKAGES},
            git_sha=_git_sha(),
            data_fingerprint=fingerprint,
            minority=tuple(minority),
            evaluator=TASKS[config.task].evaluator,
            request=config.fixed(),
        )


class StudyFolder:
    """A study's folder; of a mirror that is looked at `offline` the storage is asked nothing."""

    def __init__(self, path: Path, *, offline: bool = False) -> None:
        self.path = path.resolve()
        address = None if offline else mirrored(self.path)
        self._remote = None if address is None else Remote(address)
        self._copies: Copying | None = None  # while it is claimed
        self._new = False  # made by `create`, and on no storage yet
        self._made: Study | None = None  # by `create`
        self._made_folders = [self.path]  # by `create`, from within; empty they go with the study

    @property
    def study_yaml(self) -> Path:
        """The request, as it was when the study was made."""
        return self.path / "study.yaml"

    @property
    def splits_csv(self) -> Path:
        """Which image is in which split, where rarecall has drawn them."""
        return self.path / "splits.csv"

    @property
    def _provenance_json(self) -> Path:
        return self.path / "provenance.json"

    @property
    def files(self) -> RunFiles:
        """What its runs leave."""
        root = self.path / TRIALS
        return RunFiles(root) if self._remote is None else StoredFiles(root, self._remote)

    @property
    def report(self) -> Path:
        """Where its page goes unless said otherwise."""
        return self.at_hand / "report.html"

    @property
    def export(self) -> Path:
        """Where bundles go unless said otherwise."""
        return self.at_hand / "export"

    @property
    def at_hand(self) -> Path:
        """Where a person looks for what a command has made of a study: not in a mirror."""
        return self.path if self._remote is None else Path(self.path.name)

    def keep(self, name: str) -> None:
        """Of a study on a storage: have a file there, too, that was written without a claim."""
        if self._remote is not None and self._locally() is None:
            self._remote.put(self.path / name, name)

    def bring(self) -> None:
        """Of a study on a storage: have here what is there, unless this machine was the last to write.

        Raises:
            UsageError: There is no such bucket, or it lets nobody in.
            RunError: The storage does not answer.
        """
        if self._remote is not None and self._locally() is None:
            bring(Remote(self._remote.address, ANSWERS_S), self.path, lambda: self._locally() is not None)

    def create(
        self,
        config: StudyConfig,
        fingerprint: str,
        minority: Sequence[str],
        drawn: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    ) -> Study:
        """Make a new study here.

        Args:
            config: The request.
            fingerprint: Of its data.
            minority: The minority classes, by name; `auto` in the request means these.
            drawn: Split -> name and source of each image, where the data came without these splits.

        Raises:
            UsageError: There already is one, or the folder cannot be written.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self._made_folders = missing or [self.path]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._check_locks()
            if config.study_db is None:
                (self.path / DATABASE).unlink(missing_ok=True)  # of an attempt that ended before `study.yaml`
            self.provenance = Provenance.now(fingerprint, minority, config)
            self._provenance_json.write_text(packed(self.provenance, indent=2) + "\n")
            self._made = Study(self._url(config), config, self.provenance.minority, "create")
            if drawn:
                self._write_splits(drawn)
            self.write_request(config)  # last: a folder is a study from the moment this file is in it
            self._new = True
        except OSError as error:
            self.discard()
            raise UsageError(
                f"cannot write the study's folder: {error}", "choose another with --runs"
            ) from None
        except BaseException:
            self.discard()
            raise
        return self._made

    def _write_splits(self, drawn: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        with self.splits_csv.open("w", newline="") as stored:
            rows = csv.writer(stored)
            rows.writerow(("image", "split", "source"))
            rows.writerows(
                (name, split, source) for split, images in drawn.items() for name, source in images
            )

    def discard(self) -> None:
        """Undo `create`: the search could not start, and its request may be another one next time.

        Raises:
            RunError: The database does not let go of it.
        """
        study = self._made  # knows what it has made in a database that others use, too
        if study is None and self.study_yaml.exists() and self.config.study_db is not None:
            study = self.open("write")
        if study is not None and study.config.study_db is not None:
            study.delete()
        ours = (
            self.study_yaml,
            self._provenance_json,
            self.splits_csv,
            self.path / DATABASE,
            self.path / LOCK,
        )
        for path in ours:
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
        for known in ("config", "provenance"):  # of the study that there was
            vars(self).pop(known, None)
        self._made = None
        if self._copies is not None:
            self._copies.discarded = True
        with suppress(OSError):  # something else is in it
            for folder in self._made_folders:
                folder.rmdir()

    @contextmanager
    def claimed(self, being: str = "searched") -> Iterator[None]:
        """Be the one process that writes to this study.

        Args:
            being: What others will read of it: it is being `searched`, `confirmed` or `compared`.

        Raises:
            UsageError: Another one is.
        """
        with self._lock("a+") as lock:
            if not locked(lock, fcntl.LOCK_EX):
                raise UsageError(
                    f"{named(self.path)} is being {_being(lock)} right now", "`rarecall status` shows it"
                )
            lock.truncate(0)
            lock.write(being)
            lock.flush()
            if self._remote is None:
                self.files.forget_request()
                yield
                return
            new, self._new = self._new, False
            with copying(self._remote, self.path, being, new=new) as self._copies:
                yield
            self._copies = None

    def _lock(self, mode: Literal["r", "a+"]) -> TextIO:
        try:
            return (self.path / LOCK).open(mode)
        except OSError as error:
            raise UsageError(
                f"{self.path / LOCK} cannot be opened: {error.strerror}",
                "copy the study to where you may write",
            ) from None

    def _check_locks(self) -> None:
        """Refuse, as `locked`, a file system without: SQLite takes it for a database that is in use."""
        with self._lock("a+") as lock:
            for take in (fcntl.flock, fcntl.lockf):
                locked(lock, fcntl.LOCK_EX, take)

    def being(self) -> str | None:
        """What the process that has claimed this study says it is being, or None if there is none.

        Of a study on a storage it is as it was when that was brought.
        """
        here, known = self._locally(), brought(self.path)
        if here is not None or known is None or known.lease is None:
            return here
        return known.lease.being if known.lease.holds and not is_own(known.lease, self.path) else None

    def ask_to_stop(self) -> str:
        """Ask the process that works on this study to end, as Ctrl-C does; what it is being.

        Raises:
            UsageError: There is none.
        """
        request = self.files.stop_request
        if (being := self.being()) is None:
            hint = "" if self._remote else f"if somebody does, unseen from here: touch {request}"
            raise UsageError(f"nobody works on {named(self.path)}", hint)
        if self._remote is None or self._locally() is not None:
            request.write_text(being)
        else:
            ask_to_stop(self._remote)
        return being

    def _locally(self) -> str | None:
        """The same, of a process of this machine."""
        if not (self.path / LOCK).exists():
            return None
        with self._lock("r") as lock:
            try:
                return None if locked(lock, fcntl.LOCK_SH) else _being(lock)
            except UsageError:  # without locks nobody can have claimed it
                return None

    def write_request(self, config: StudyConfig) -> None:
        """Write `study.yaml`, whole or not at all."""
        partial = self.path / ".study.yaml.tmp"
        kept = config.kept().model_dump(mode="json")  # a password is in no file
        partial.write_text(yaml.safe_dump(kept, sort_keys=False))
        os.replace(partial, self.study_yaml)
        self.config = config

    @cached_property
    def config(self) -> StudyConfig:
        """The request this study was made with, read once.

        Raises:
            UsageError: There is no study here, or a newer version of rarecall has made it.
        """
        if not self.study_yaml.is_file():
            raise UsageError(f"no study in {named(self.path)}", "`rarecall search STUDY.yaml` makes one")
        if self._provenance_json.exists():
            self.provenance  # noqa: B018  (a newer version's request could not be read, and would not say why)
        return load_config(self.study_yaml, stored=True)

    @cached_property
    def provenance(self) -> Provenance:
        """What the study ran with.

        Raises:
            UsageError: A newer version of rarecall has made it.
            RunError: Its file is gone or damaged.
        """
        path = self._provenance_json
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise RunError(f"{path} is not a file", SAVED)
            text = path.read_bytes().decode(errors="replace")
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}", SAVED) from None
        return unpacked(Provenance, text, str(path))

    def open(self, access: Access = "read") -> Study:
        """The record of the study in this folder.

        Args:
            access: As of `connection.Database`; to `write` this process has to have claimed it.

        Raises:
            UsageError: There is no study here, or its request was changed.
            RunError: Its database is out of reach, locked or damaged.
        """
        now = self.config.fixed()
        changed = [key for key, value in self.provenance.request.items() if now.get(key) != value]
        if changed:
            raise UsageError(
                f"{self.study_yaml} was changed since the study was made, in: {', '.join(changed)}",
                "change it back: its runs are of the request as it was; another request is another study",
            )
        asked = self.config.minority
        minority = asked if asked != "auto" else self.provenance.minority
        study = Study(self._url(self.config), self.config, minority, access)
        if self._copies is not None:
            study.also_check(self._copies.check)
        return study

    def _url(self, config: StudyConfig) -> str:
        if config.study_db is not None:
            return config.study_db
        return f"sqlite:///{quote(os.fsencode(self.path / DATABASE))}"


def _being(lock: TextIO) -> str:
    """What the process that holds the lock has written into it; between the two it has just begun."""
    lock.seek(0)
    return lock.read() or "opened"


def _git_sha() -> str | None:
    """Commit of the working folder's repository, or None outside of one (or without git)."""
    with suppress(FileNotFoundError):
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    return None
