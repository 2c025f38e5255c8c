"""Checkpoints of a study's runs, and what finished ones leave. The one place that knows Ray's names.

`trials/<key>/checkpoint_000000/` and so on, numbered from 0 again by each attempt; `trials/<key>/resume/` is
what the next attempt starts from. A checkpoint with `progress.json` is of a run that goes on; one with
`report.json` is a result, and so is, of 0.1.0, one without either. A cluster copies file by file and may be
cut at any of them, so nothing is taken that does not hold all that it says, and nothing that something could
still go on from is removed before what takes its place is there.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spaces.errors import RunError
from trainables.contract.kept import looks_whole, stated_report, whole_progress, whole_report
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

    def resumable(self, key: str) -> Path | None:
        """Put the furthest whole checkpoint of an interrupted run aside, for its next attempt to start from.

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


def replace(older: Path, newer: Path) -> None:
    """Remove a checkpoint of a run, once the one that takes its place is whole and on the disk.

    Args:
        older: A checkpoint, or one that is gone already.
        newer: A checkpoint or a result.
    """
    read = whole_report if (newer / REPORT).exists() else whole_progress
    if read(newer, hashed=False) is not None:  # their copy has just ended without an error
        _sync_files(newer)
        _remove(older)


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
