"""Where a study keeps its files: study.yaml, provenance.json, splits.csv, study.db, trials/, export/."""

import csv
import fcntl
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TextIO

import yaml

from search.record.experiments import now
from search.record.files import RunFiles
from search.record.stored import packed, unpacked
from search.record.study import Study
from search.request.config import StudyConfig
from search.request.reading import load_config
from spaces.errors import UsageError
from spaces.frozen import Frozen
from trainables.contract.tasks import TASKS

DATABASE = "study.db"
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
    """

    created: str
    python: str
    versions: dict[str, str]
    git_sha: str | None
    data_fingerprint: str
    minority: tuple[str, ...]
    evaluator: int = 1

    @classmethod
    def now(cls, fingerprint: str, minority: Sequence[str], evaluator: int) -> "Provenance":
        """Of this process."""
        return cls(
            created=now(),
            python=platform.python_version(),
            versions={name: metadata.version(name) for name in PACKAGES},
            git_sha=_git_sha(),
            data_fingerprint=fingerprint,
            minority=tuple(minority),
            evaluator=evaluator,
        )


class StudyFolder:
    """A study's folder; `runs/<name>` unless said otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

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
        return RunFiles(self.path / "trials")

    @property
    def export(self) -> Path:
        """Where bundles go unless said otherwise."""
        return self.path / "export"

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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if config.study_db is None:
                (self.path / DATABASE).unlink(missing_ok=True)  # of an attempt that ended before `study.yaml`
            self.provenance = Provenance.now(fingerprint, minority, TASKS[config.task].evaluator)
            self._provenance_json.write_text(packed(self.provenance, indent=2) + "\n")
            study = Study(self._url(config), config, self.provenance.minority, create=True)
            if drawn:
                self._write_splits(drawn)
            self.write_request(config)  # last: a folder is a study from the moment this file is in it
        except OSError as error:
            raise UsageError(
                f"cannot write the study's folder: {error}", "choose another with --runs"
            ) from None
        return study

    def _write_splits(self, drawn: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        with self.splits_csv.open("w", newline="") as stored:
            rows = csv.writer(stored)
            rows.writerow(("image", "split", "source"))
            rows.writerows(
                (name, split, source) for split, images in drawn.items() for name, source in images
            )

    def discard(self) -> None:
        """Undo `create`: the search could not start, and its request may be another one next time."""
        for path in (self.study_yaml, self._provenance_json, self.splits_csv, self.path / DATABASE):
            path.unlink(missing_ok=True)
        for known in ("config", "provenance"):  # of the study that there was
            vars(self).pop(known, None)

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
        self.config = config

    @cached_property
    def config(self) -> StudyConfig:
        """The request this study was made with, read once.

        Raises:
            UsageError: There is no study here.
        """
        if not self.study_yaml.is_file():
            raise UsageError(f"no study in {self.path}", "`rarecall search STUDY.yaml` makes one")
        return load_config(self.study_yaml, stored=True)

    @cached_property
    def provenance(self) -> Provenance:
        """What the study ran with."""
        return unpacked(Provenance, self._provenance_json.read_text())

    def open(self) -> Study:
        """The record of the study in this folder.

        Raises:
            UsageError: There is no study here.
        """
        asked = self.config.minority
        minority = asked if asked != "auto" else self.provenance.minority
        return Study(self._url(self.config), self.config, minority)

    def _url(self, config: StudyConfig) -> str:
        return config.study_db if config.study_db is not None else f"sqlite:///{self.path / DATABASE}"


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
