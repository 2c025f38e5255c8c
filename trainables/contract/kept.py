"""What a run leaves on its way and at its end, and whether all of it is there. Files only: no Ray, no torch.

A full disk or a power cut may cut any copy of a checkpoint or a result: files are missing, short or empty.
Each says of itself what it holds, in the file that is written last: `progress.json` in a checkpoint,
`report.json` in a result. What 0.1.0 left says nothing, and can only be looked at.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from spaces.frozen import Frozen
from trainables.contract.predictions import MINORITY_WEIGHTS, WEIGHTS
from trainables.contract.trial import PROGRESS, REPORT, EpochMetrics, Metrics, TrialReport

FEW_CLASSES = 100  # whose metrics are kept of every epoch; of 1,000 classes they are 280 KB
_ZIPPED = {".npz", ".pt"}
WEIGHT_FILES = (WEIGHTS, MINORITY_WEIGHTS)


class Mark(Frozen):
    """What one file holds.

    Attributes:
        size: In bytes.
        blake2b: Of its bytes, 32 hex digits.
    """

    size: int
    blake2b: str


class Progress(Frozen):
    """How far a run has come.

    Attributes:
        curve: One entry per epoch.
        seconds: Of training so far, over all attempts.
        restarts: How often it was resumed.
        files: Those that it goes on from, by name; None if 0.1.0 wrote it.
    """

    curve: tuple[EpochMetrics, ...] = ()
    seconds: float = 0.0
    restarts: int = 0
    files: dict[str, Mark] | None = None


class Result(Frozen):
    """A finished run's report, with the files that it leaves."""

    report: TrialReport
    files: dict[str, Mark]

    def without_weights(self) -> "Result":
        """The same, stating no weights: it is whole without them, too."""
        left = {name: mark for name, mark in self.files.items() if name not in WEIGHT_FILES}
        return self.model_copy(update={"files": left})


Stated = TypeVar("Stated", Progress, Result)


def of_few(
    metrics: Metrics, minority: Collection[str], kept: Collection[str] = (), *, most: int = FEW_CLASSES
) -> Metrics:
    """The metrics, without those of single classes of the rest where there are more than `most` classes.

    Args:
        metrics: Of an epoch or a run.
        minority: Names of the minority classes.
        kept: Names of metrics that stay.
        most: Classes.
    """
    classes = {name.removeprefix("support/") for name in metrics if name.startswith("support/")}
    if len(classes) <= most:
        return metrics
    rest = tuple(f"/{name}" for name in classes.difference(minority))
    return {name: value for name, value in metrics.items() if name in kept or not name.endswith(rest)}


def write_progress(checkpoint: Path, progress: Progress) -> None:
    """Complete a checkpoint: all its other files are there."""
    files = {name: mark for name, mark in _marks(checkpoint).items() if name != PROGRESS}
    _write(checkpoint / PROGRESS, progress.model_copy(update={"files": files}))


def write_result(result: Path, report: TrialReport) -> None:
    """Complete a result: all its other files are there."""
    files = {name: mark for name, mark in _marks(result).items() if name != REPORT}
    _write(result / REPORT, Result(report=report, files=files))


def read_progress(checkpoint: Path | None) -> Progress:
    """How far an earlier attempt has come; no checkpoint is the very beginning."""
    if checkpoint is None:
        return Progress()
    return Progress.model_validate_json((checkpoint / PROGRESS).read_bytes())


def whole_progress(checkpoint: Path, *, hashed: bool = True) -> Progress | None:
    """How far a run has come, or None if something of its checkpoint is missing or damaged.

    Args:
        checkpoint: Its folder.
        hashed: Read every file; else only their sizes are looked at, which tells a copy that was cut.
    """
    progress = _stated(Progress, checkpoint / PROGRESS)
    if progress is None:
        return None
    if progress.files is None:
        return progress if looks_whole(checkpoint) else None
    return progress if _there(checkpoint, progress.files, hashed=hashed) else None


def whole_report(result: Path, *, hashed: bool = True) -> TrialReport | None:
    """A finished run's report, or None if something of its result is missing or damaged.

    Args:
        result: Its folder.
        hashed: As of `whole_progress`.
    """
    stated = _stated(Result, result / REPORT)
    return stated.report if stated is not None and _there(result, stated.files, hashed=hashed) else None


def stated_report(result: Path) -> TrialReport | None:
    """A finished run's report, also where its weights were removed; None where there is none."""
    stated = _stated(Result, result / REPORT)
    return None if stated is None else stated.report


def disown_weights(result: Path) -> list[Path]:
    """Let a result no longer state its weights: it is whole without them, too.

    Returns:
        Those that are there, to be removed; none where it does not say what it holds, as 0.1.0 left it.
    """
    stated = _stated(Result, result / REPORT)
    if stated is None:
        return []
    left = stated.without_weights()
    if left != stated:
        _write(result / REPORT, left)
    return [path for name in WEIGHT_FILES if (path := result / name).is_file()]


def looks_whole(folder: Path) -> bool:
    """Whether no file shows that it was cut, in a folder that does not say what it holds."""
    paths = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return bool(paths) and all(_looks_whole(path) for path in paths)


def _looks_whole(path: Path) -> bool:
    if path.suffix in _ZIPPED:
        return zipfile.is_zipfile(path)  # where its files are stands at its end
    if path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return False
    return path.stat().st_size > 0


def _marks(folder: Path) -> dict[str, Mark]:
    return {path.name: _mark(path) for path in sorted(folder.iterdir()) if path.is_file()}


def _mark(path: Path) -> Mark:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return Mark(size=file.tell(), blake2b=digest.hexdigest())


def _there(folder: Path, files: dict[str, Mark], *, hashed: bool) -> bool:
    for name, mark in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != mark.size:
            return False
        if hashed and _mark(path) != mark:
            return False
    return True


def _stated(kind: type[Stated], path: Path) -> Stated | None:
    """What a folder says of itself, or None if it is not there or was cut."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, value: Progress | Result) -> None:
    """Write a file, whole or not at all."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(value.model_dump_json())
    os.replace(partial, path)
