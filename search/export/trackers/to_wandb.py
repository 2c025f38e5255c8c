"""A study in Weights & Biases: a project of its name, runs grouped by arm.

Offline nothing can be asked, so what was told is noted in the study's folder. Ids are made from the record:
should the notes be gone, the same runs are told again, under the same ids.
"""

import json
import os
from pathlib import Path
from typing import Any

from search.export.trackers.runs import TrackedRun, TrackedStudy
from search.export.trackers.told import Told, talking_to

NOTES = "tracked.json"  # in wandb's folder: project -> id -> content
# Unless the person says otherwise.
QUIET = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_ERROR_REPORTING": "false"}


def to_wandb(study: TrackedStudy, uri: str | None, folder: Path) -> Told:
    """Tell W&B what it was not told yet.

    Args:
        study: What to tell.
        uri: Of a server of one's own; None for what W&B's own settings say (WANDB_MODE=offline, …).
        folder: In whose folder `wandb` W&B keeps its files, and we our notes.

    Raises:
        UsageError: wandb is not installed.
        RunError: W&B cannot be reached, or nobody is logged in.
    """
    with talking_to("wandb"):
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import wandb  # noqa: PLC0415  (an extra, and slow to load)

        files = folder / "wandb"
        files.mkdir(parents=True, exist_ok=True)
        place = uri or os.environ.get("WANDB_BASE_URL", "wandb")
        notes = _Notes(files / NOTES, f"{place}/{study.name}")
        new = changed = 0
        for run in study.runs:
            before = notes.told.get(run.id)
            if before == run.content:
                continue
            _tell(wandb, study.name, run, uri, folder, again=before is not None)
            notes.keep(run)
            new, changed = new + (before is None), changed + (before is not None)
        return Told(f"{place}, project {study.name}; files in {files}", len(study.runs), new, changed)


class _Notes:
    """What was told, written after each run."""

    def __init__(self, file: Path, place: str) -> None:
        self._file, self._place = file, place
        self._all: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.is_file() else {}
        self.told = self._all.setdefault(place, {})

    def keep(self, run: TrackedRun) -> None:
        self.told[run.id] = run.content
        partial = self._file.with_suffix(".tmp")
        partial.write_text(json.dumps(self._all))
        os.replace(partial, self._file)


def _tell(wandb: Any, project: str, run: TrackedRun, uri: str | None, folder: Path, *, again: bool) -> None:
    """All of a run; of one that is told again not its curve, which would be there twice."""
    settings = {"silent": True, "console": "off", "x_disable_stats": True, "x_disable_meta": True}
    settings |= {} if uri is None else {"base_url": uri}
    told = wandb.init(
        project=project,
        id=run.id,
        name=run.name,
        group=run.arm,
        job_type=run.tags["kind"],
        config=run.params,
        dir=str(folder),
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(**settings),
    )
    try:
        for epoch, values in () if again else run.curve:
            told.log(values, step=epoch)
        told.summary.update(run.metrics | run.tags)
        for name, text in run.files.items():
            kept = Path(told.dir) / name
            kept.write_text(text)
            told.save(str(kept), base_path=told.dir, policy="now")
    finally:
        told.finish(exit_code=0 if run.state != "failed" else 1)
