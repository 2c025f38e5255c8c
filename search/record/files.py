"""Checkpoints of a study's runs, and what finished ones leave. The one place that knows Ray's names.

`trials/<key>/checkpoint_000000/` and so on, numbered from 0 again by each attempt; `trials/<key>/resume/` is
what the next attempt starts from. A checkpoint with `progress.json` is of a run that goes on; one with
`report.json` is a result, and so is, of 0.1.0, one without either. A cluster copies file by file and may be
cut at any of them, so nothing is taken that does not hold all that it says, and nothing that something could
still go on from is removed before what takes its place is there.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.record.storage.mirror import STOP
from spaces.errors import RunError, UsageError
from trainables.contract.kept import disown_weights, looks_whole, stated_report, whole_progress, whole_report
from trainables.contract.predictions import WEIGHTS
from trainables.contract.trial import PROGRESS, REPORT, EpochMetrics, TrialReport

CHECKPOINTS = "checkpoint_*"
ASIDE = "resume"


class RunFiles:
    """The folder of all runs of a study.

    Attributes:
        root: One folder per run, named by its key.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def storage(self) -> tuple[str, Any]:
        """Path of the study's folder as workers write to it, and pyarrow's file system for it, or None."""
        return str(self.root.parent), None

    @contextmanager
    def marked(self) -> Iterator[tuple[str, str, str]]:
        """Something to look for from another node, while the context lasts.

        Returns:
            Path of a new file, or of nothing; address of a storage, or nothing, and the name of a file on it.
        """
        mark = self.root.parent / f".seen-{secrets.token_hex(4)}"
        mark.touch()
        try:
            yield str(mark), "", ""
        finally:
            mark.unlink()

    @property
    def stop_request(self) -> Path:
        """A file in the study's folder: whoever makes it asks the process that has the study to end."""
        return self.root.parent / STOP

    def forget_request(self) -> None:
        """One that names a process asks another, which has ended without reading it.

        An empty one is a scheduler's, to whoever is about to begin.
        """
        if self.stop_request.is_file() and self.stop_request.read_text():
            self.stop_request.unlink()

    def result(self, key: str, *, hashed: bool = False) -> Path | None:
        """The folder with a finished run's weights and predictions, or None where it is gone or damaged.

        Args:
            key: Of a run that has finished.
            hashed: Read every file of it; else their sizes have to do.
        """
        with self._readable(key):
            ends = [path for path in self._checkpoints(key) if not (path / PROGRESS).exists()]
            stating = [path for path in ends if (path / REPORT).exists()]
            if stating:
                whole = [path for path in stating if whole_report(path, hashed=hashed) is not None]
            else:
                whole = [path for path in ends if looks_whole(path)]
            return whole[-1] if whole else None

    def to_use(self, key: str, name: str, *, weights: bool = True, hashed: bool = False) -> Path:
        """The folder of `result`, for somebody who needs the weights in it.

        Args:
            key: Of a run that has finished.
            name: Of the run, for messages.
            weights: Whether a run of its task leaves any.
            hashed: As of `result`.

        Raises:
            UsageError: They were removed when the search had ended, or they are gone or damaged.
        """
        found = self.result(key, hashed=hashed)
        if found is not None and (not weights or (found / WEIGHTS).is_file()):
            return found
        if found is not None and (found / REPORT).exists():  # which states them, unless they were removed
            raise UsageError(
                f"the weights of {name} were removed when the search had ended, as it is not on the front",
                "`rarecall confirm STUDY --trial N` trains it on fresh seeds; `export --confirmed` takes it "
                "once accepted. `keep: all` in a study file keeps all weights",
            )
        raise UsageError(
            f"the weights of {name} are gone from {self.root / key}, or damaged",
            "bring the folder back from a copy, or take another run: --trial N, --baseline, --confirmed",
        )

    def report(self, key: str) -> TrialReport | None:
        """What a run reported that has finished, whether or not anybody came to read it."""
        with self._readable(key):
            for path in reversed(self._checkpoints(key)):
                report = whole_report(path) if (path / REPORT).exists() else None
                if report is not None and report.key == key:
                    return report
            return None

    def curve(self, report: TrialReport) -> tuple[EpochMetrics, ...]:
        """Every epoch's metrics of a finished run; where its files are gone, those of the report.

        Args:
            report: As the record has it, which keeps few epochs.
        """
        with self._readable(report.key):
            for path in reversed(self._checkpoints(report.key)):
                stated = stated_report(path)
                if stated is not None and stated.key == report.key:
                    return stated.curve
            return report.curve

    def discard(self) -> None:
        """Remove the study's folder with all in it."""
        shutil.rmtree(self.root.parent)

    def remove_weights(self, key: str) -> int:
        """Remove the weights of a run that has ended, and what it went on from; the rest of its result stays.

        Returns:
            Bytes that are free now.
        """
        with self._readable(key):
            checkpoints = [path for path in self._checkpoints(key) if (path / PROGRESS).exists()]
            stale = [self.root / key / ASIDE, *checkpoints]
            gone = [path for result in self._checkpoints(key) for path in disown_weights(result)]
            for result in {path.parent for path in gone}:
                _sync_files(result)  # before they go it has to state that it is whole without them
            held = [path for folder in stale for path in folder.glob("*")]
            freed = sum(path.stat().st_size for path in (*gone, *held))
            for path in gone:
                path.unlink()
            for folder in stale:
                _remove(folder)
            return freed

    def resumable(self, key: str) -> Path | str | None:
        """Put the furthest whole checkpoint of an interrupted run aside, for its next attempt to start from.

        Its folder, or on a storage its address.

        Without one the attempt starts afresh. The others go: it numbers its own from 0 again, into the same
        folders.
        """
        aside = self.root / key / ASIDE
        with self._readable(key):
            furthest = self._furthest([aside, *self._checkpoints(key)])
            if furthest != aside:
                _remove(aside)
                if furthest is not None:
                    furthest.rename(aside)
                    _sync(aside.parent)
            for stale in self._checkpoints(key):
                _remove(stale)
            return None if furthest is None else aside

    def at_hand(self, resume: Path | str | None, scratch: Path) -> Path | None:
        """What `resumable` has found as a folder of this machine; `scratch` has room for a copy."""
        return None if resume is None else Path(resume)

    def _furthest(self, folders: Sequence[Path]) -> Path | None:
        """The one that a run got furthest in, of those that are whole; of equals the first."""
        known = [(path, whole_progress(path)) for path in folders if (path / PROGRESS).exists()]
        epochs = {path: len(progress.curve) for path, progress in known if progress is not None}
        return max(epochs, key=lambda path: epochs[path]) if epochs else None

    def keep(self, key: str, files: Path) -> None:
        """Keep a run's checkpoint or result where a cluster would; the one before it goes.

        Args:
            key: Of the run.
            files: The folder to copy; a reader sees the whole copy or none, also after a power cut.
        """
        folder = self.root / key
        partial = folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for path in files.iterdir():
            shutil.copyfile(path, partial / path.name)
        older = self._checkpoints(key)
        number = int(older[-1].name.rpartition("_")[2]) + 1 if older else 0
        newer = folder / f"checkpoint_{number:06d}"
        _sync_files(partial)
        os.replace(partial, newer)
        _sync(folder)
        for path in older:
            _remove(path)

    def replace(self, older: str, newer: str) -> None:
        """Remove a checkpoint of a run, once the one that takes its place is whole and on the disk.

        Args:
            older: Path of a checkpoint, or of one that is gone already.
            newer: Path of a checkpoint or a result.
        """
        place = Path(newer)
        read = whole_report if (place / REPORT).exists() else whole_progress
        if read(place, hashed=False) is not None:  # their copy has just ended without an error
            _sync_files(place)
            _remove(Path(older))

    def _checkpoints(self, key: str) -> list[Path]:
        """All that a cluster has kept of a run, whole or not, from the oldest on."""
        return sorted((self.root / key).glob(CHECKPOINTS))

    @contextmanager
    def _readable(self, key: str) -> Iterator[None]:
        """A disk that cannot be read is not the same as a file that was cut: nothing is decided then.

        Raises:
            RunError: It cannot.
        """
        try:
            yield
        except OSError as error:
            raise RunError(f"the files of run {key} cannot be read or moved: {error}") from error


def _remove(folder: Path) -> None:
    """Remove a folder; who looks meanwhile, or afterwards if this is cut, sees all of it or nothing."""
    if not folder.exists():
        return
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)


def _sync_files(folder: Path) -> None:
    """Wait until a folder's files are on the disk."""
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
