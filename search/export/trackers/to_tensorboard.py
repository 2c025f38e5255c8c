"""A study as event files for TensorBoard: a folder for each run, `<arm>` or `<arm>/<experiment, seed>`."""

import os
import re
import shutil
from datetime import datetime
from pathlib import Path

from search.export.trackers.runs import TrackedRun, TrackedStudy
from search.export.trackers.told import Told, talking_to
from spaces.errors import RunError, UsageError

CONTENT = ".rarecall"  # in a run's folder: its id and all that was told of it
_NOT_IN_NAMES = re.compile(r"[^\w\-.]+")


def to_tensorboard(study: TrackedStudy, uri: str) -> Told:
    """Write what is not there yet; a run's folder is written aside and renamed, so it is whole or not there.

    Args:
        study: What to write.
        uri: The folder; `tensorboard --logdir` shows it.

    Raises:
        UsageError: tensorboardX is not installed, or this is an address of a server.
        RunError: The folder cannot be written, or holds another's files where a run should be.
    """
    if "://" in uri:
        raise UsageError(
            f"tensorboard: '{uri}' is no folder", "its files go into one: tensorboard --logdir FOLDER"
        )
    root = Path(uri)
    with talking_to("tensorboard"):
        new = changed = 0
        for run in study.runs:
            folder = root.joinpath(*map(_named, (run.arm, run.name) if run.parent else (run.arm, "arm")))
            marker, content = folder / CONTENT, f"{run.id} {run.content}"
            known = marker.read_text() if marker.is_file() else None
            if known == content:
                continue
            if folder.exists() and known is None:
                raise RunError(f"tensorboard: {folder} holds other files", "choose another folder with --uri")
            if folder.exists():
                shutil.rmtree(folder)
                changed += 1
            else:
                new += 1
            aside = root / f".writing-{run.id}"
            shutil.rmtree(aside, ignore_errors=True)
            _write(run, aside, datetime.fromisoformat(study.created).timestamp())
            (aside / CONTENT).write_text(content)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside, folder)
        return Told(str(root), len(study.runs), new, changed)


def _write(run: TrackedRun, folder: Path, began: float) -> None:
    from tensorboardX import SummaryWriter  # noqa: PLC0415  (an extra)
    from tensorboardX.summary import hparams  # noqa: PLC0415

    last = max((epoch for epoch, _ in run.curve), default=0)
    with SummaryWriter(str(folder)) as writer:
        for epoch, values in run.curve:
            for name, value in values.items():
                if epoch < last or name not in run.metrics:
                    writer.add_scalar(name, value, epoch, walltime=began + epoch)
        for name, value in run.metrics.items():
            writer.add_scalar(name, value, last, walltime=began + run.seconds)
        # `add_hparams` would make a run of its own beside this one.
        for summary in hparams(dict(run.params), {name: None for name in run.metrics}):
            writer.file_writer.add_summary(summary)
        short = {name: text for name, text in run.files.items() if name.endswith(".json")}
        for name, text in (run.tags | short).items():  # it shows no pages
            writer.add_text(name, text, last, walltime=began + run.seconds)


def _named(name: str) -> str:
    """A name of a folder: `confirm_1`."""
    return _NOT_IN_NAMES.sub("_", name)
