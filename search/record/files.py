"""Checkpoints of a study's runs, and what finished ones leave. The one place that knows Ray's names.

`trials/<key>/checkpoint_000000/` and so on, numbered from 0 again by each attempt; `trials/<key>/resume/` is
what the next attempt starts from. A checkpoint with `progress.json` is of a run that goes on; one without it
is a result.
"""

import json
import os
import shutil
from pathlib import Path

from trainables.contract.trial import PROGRESS

CHECKPOINTS = "checkpoint_*"


class RunFiles:
    """The folder of all runs of a study.

    Attributes:
        root: One folder per run, named by its key.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def result(self, key: str) -> Path | None:
        """The folder with a finished run's weights and predictions, or None before it has finished."""
        found = sorted((self.root / key).glob(CHECKPOINTS))
        finished = [path for path in found if not (path / PROGRESS).exists()]
        return finished[-1] if finished else None

    def resumable(self, key: str) -> Path | None:
        """Put the furthest checkpoint of an interrupted run aside, for its next attempt to start from."""
        found = list((self.root / key).glob(f"*/{PROGRESS}"))
        if not found:
            return None
        furthest = max(found, key=lambda path: len(json.loads(path.read_text())["curve"])).parent
        aside = self.root / key / "resume"
        if furthest != aside:
            _remove(aside)
            furthest.rename(aside)
        for stale in (self.root / key).glob(CHECKPOINTS):
            _remove(stale)
        return aside

    def keep(self, key: str, files: Path) -> None:
        """Keep a run's checkpoint or result where a cluster would; the one before it goes.

        Args:
            key: Of the run.
            files: The folder to copy; a reader sees the whole copy or none.
        """
        folder = self.root / key
        partial = folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(files, partial)
        older = sorted(folder.glob(CHECKPOINTS))
        number = int(older[-1].name.rpartition("_")[2]) + 1 if older else 0
        os.replace(partial, folder / f"checkpoint_{number:06d}")
        for path in older:
            _remove(path)


def _remove(folder: Path) -> None:
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
