"""Where a study keeps its files: study.yaml, provenance.json, study.db, trials/<key>/, export/."""

import fcntl
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import yaml

from search.record.experiments import now
from search.record.study import Study
from search.request.config import StudyConfig, load_config
from spaces.errors import UsageError
from trainables.contract.trial import PROGRESS

DATABASE = "study.db"
LOCK = ".lock"
PACKAGES = ("rarecall", "ray", "optuna", "torch", "ultralytics", "albumentations", "numpy")


class StudyFolder:
    """A study's folder; `runs/<name>` unless said otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def study_yaml(self) -> Path:
        """The request, as it was when the study was made."""
        return self.path / "study.yaml"

    @property
    def _provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def trials(self) -> Path:
        """One folder per run, named by its key."""
        return self.path / "trials"

    @property
    def export(self) -> Path:
        """Where bundles go unless said otherwise."""
        return self.path / "export"

    def create(self, config: StudyConfig, fingerprint: str, minority: Sequence[str]) -> Study:
        """Make a new study here.

        Args:
            config: The request.
            fingerprint: Of its data.
            minority: The minority classes, by name; `auto` in the request means these.

        Raises:
            UsageError: There already is one, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if config.study_db is None:
                (self.path / DATABASE).unlink(missing_ok=True)  # of an attempt that ended before `study.yaml`
            made_with = provenance(fingerprint, minority)
            self._provenance.write_text(json.dumps(made_with, indent=2) + "\n")
            study = Study(self._url(config), config, create=True)
            self.write_request(config)  # last: a folder is a study from the moment this file is in it
        except OSError as error:
            raise UsageError(
                f"cannot write the study's folder: {error}", "choose another with --runs"
            ) from None
        return study

    def discard(self) -> None:
        """Undo `create`: the search could not start, and its request may be another one next time."""
        for path in (self.study_yaml, self._provenance, self.path / DATABASE):
            path.unlink(missing_ok=True)

    @contextmanager
    def claimed(self, being: str = "searched") -> Iterator[None]:
        """Be the one process that writes to this study.

        Args:
            being: What others will read of it: it is being `searched`, `confirmed` or `compared`.

        Raises:
            UsageError: Another one is.
        """
        with (self.path / LOCK).open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{self.path} is being {_being(lock)} right now", "`rarecall status` shows it"
                ) from None
            lock.truncate(0)
            lock.write(being)
            lock.flush()
            yield

    def being(self) -> str | None:
        """What the process that has claimed this study says it is being, or None if there is none."""
        try:
            with (self.path / LOCK).open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _being(lock)
        except FileNotFoundError:
            return None
        return None

    def write_request(self, config: StudyConfig) -> None:
        """Write `study.yaml`, whole or not at all."""
        partial = self.path / ".study.yaml.tmp"
        partial.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        os.replace(partial, self.study_yaml)

    def config(self) -> StudyConfig:
        """The request this study was made with.

        Raises:
            UsageError: There is no study here.
        """
        if not self.study_yaml.is_file():
            raise UsageError(f"no study in {self.path}", "`rarecall search STUDY.yaml` makes one")
        return load_config(self.study_yaml)

    def data_fingerprint(self) -> str:
        """Of the data that the study was made with."""
        return str(json.loads(self._provenance.read_text())["data_fingerprint"])

    def minority(self) -> tuple[str, ...]:
        """Names of the minority classes: those asked for, or those that `auto` meant."""
        asked = self.config().minority
        return asked if asked != "auto" else tuple(json.loads(self._provenance.read_text())["minority"])

    def open(self) -> Study:
        """The record of the study in this folder.

        Raises:
            UsageError: There is no study here.
        """
        config = self.config()
        return Study(self._url(config), config)

    def _url(self, config: StudyConfig) -> str:
        return config.study_db if config.study_db is not None else f"sqlite:///{self.path / DATABASE}"

    def result(self, key: str) -> Path | None:
        """The folder with a finished run's `weights` and predictions, or None before it has finished."""
        found = sorted((self.trials / key).glob("checkpoint_*"))
        finished = [path for path in found if not (path / PROGRESS).exists()]
        return finished[-1] if finished else None

    def resumable(self, key: str) -> Path | None:
        """Put the furthest checkpoint of an interrupted run aside, for its next attempt to start from.

        Ray numbers a new attempt's checkpoints from 0 again, over the old ones.
        """
        found = list((self.trials / key).glob(f"*/{PROGRESS}"))
        if not found:
            return None
        furthest = max(found, key=lambda path: len(json.loads(path.read_text())["curve"])).parent
        aside = self.trials / key / "resume"
        if furthest != aside:
            _remove(aside)
            furthest.rename(aside)
        for stale in (self.trials / key).glob("checkpoint_*"):
            _remove(stale)
        return aside


def _remove(folder: Path) -> None:
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def provenance(fingerprint: str, minority: Sequence[str]) -> dict[str, Any]:
    """What a study ran with: versions, commit, data fingerprint, minority classes."""
    return {
        "created": now(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "git_sha": _git_sha(),
        "data_fingerprint": fingerprint,
        "minority": list(minority),
    }


def _being(lock: TextIO) -> str:
    """What the process that holds the lock has written into it; between the two it has just begun."""
    lock.seek(0)
    return lock.read() or "opened"


def _git_sha() -> str | None:
    """Commit of the working folder's repository, or None outside of one (or without git)."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
