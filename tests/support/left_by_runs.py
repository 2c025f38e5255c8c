"""A checkpoint and a result, as a run leaves them, without a run."""

from pathlib import Path

from reports import report_with

from trainables.contract.kept import Progress, write_progress, write_result
from trainables.contract.trial import EpochMetrics

KEY = "key"


def checkpoint(folder: Path, epochs: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.bin").write_text(f"after {epochs}")
    curve = tuple(EpochMetrics(epoch=epoch + 1, metrics={}) for epoch in range(epochs))
    write_progress(folder, Progress(curve=curve, seconds=1.0))
    return folder


def result(folder: Path, key: str = KEY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.pt").write_bytes(b"weights" * 100)
    write_result(folder, report_with({"minority_recall": 0.5}, key=key))
    return folder
