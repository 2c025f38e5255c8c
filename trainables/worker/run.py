"""Run one trial to its report, in this process. No Ray, no Optuna."""

import math
import time
import traceback
from pathlib import Path
from typing import Any

from trainables.contract.kept import Progress, of_few, read_progress, write_progress, write_result
from trainables.contract.memory import within_memory
from trainables.contract.node import own_device, own_gpus
from trainables.contract.space import is_out_of_space, out_of_space
from trainables.contract.trial import (
    Diverged,
    EpochMetrics,
    OnEpoch,
    Outcome,
    OutOfMemory,
    ReceiptMismatch,
    Trained,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)
from trainables.data.staging.fetched import DataChanged
from trainables.storage.reading import StorageAway
from trainables.worker.by_task import BY_TASK

TOLERANCE = 1e-6


def run_trial(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Outcome:
    """Train `spec` and measure it.

    Args:
        spec: The run.
        folder: Its files. After each epoch that `folder.saves` chooses `folder.checkpoint` holds all that is
            needed to go on from there; at the end `folder.result` holds weights, predictions and the report.
        on_epoch: Called after each epoch that this call trains. What it raises passes through (that is how a
            caller stops a run); what the training raises becomes a `TrialFailure`.
    """
    started = time.perf_counter()
    earlier = read_progress(folder.resume)
    restarts = earlier.restarts + (folder.resume is not None)
    curve = list(earlier.curve)
    for path in (folder.checkpoint, folder.result):
        path.mkdir(parents=True, exist_ok=True)

    def epoch_done(measured: EpochMetrics) -> None:
        kept = of_few(measured.metrics, spec.data.minority)
        curve.append(measured.model_copy(update={"metrics": kept}))
        if folder.saves.fresh:
            seconds = earlier.seconds + time.perf_counter() - started
            write_progress(
                folder.checkpoint, Progress(curve=tuple(curve), seconds=seconds, restarts=restarts)
            )
        try:
            on_epoch(measured)
        except Exception as error:
            raise _FromCaller(error) from error
        if folder.saves.fresh:
            folder.saves.kept()

    def report_of(trained: Trained) -> TrialReport:
        return TrialReport(
            key=spec.key,
            metrics=trained.metrics,
            curve=tuple(curve),
            applied=trained.applied,
            exposure=trained.exposure,
            images_seen=trained.images_seen,
            unique_images=trained.unique_images,
            steps=trained.steps,
            seconds=earlier.seconds + time.perf_counter() - started,
            device=trained.device,
            restarts=restarts,
        )

    try:
        with within_memory(spec.train):
            trained = BY_TASK[spec.task].train(spec, folder, epoch_done)
        _check_finite(trained.metrics)
        check_receipt(spec, trained.applied)
        _check_exposure(trained.exposure)
        report = report_of(trained)
        write_result(folder.result, report)
    except _FromCaller as stop:
        raise stop.error from None
    except Exception as error:  # the boundary: a trial that raises is a value for the driver
        return _failure(spec.key, error, folder.root)
    return report


def _failure(key: str, error: Exception, scratch: Path) -> TrialFailure:
    """What a trial that raised is for the driver; with the traceback where it is the code's own."""
    if isinstance(error, Diverged):
        return TrialFailure(key=key, kind="diverged", reason=str(error))
    if isinstance(error, ReceiptMismatch):
        return TrialFailure(key=key, kind="receipt", reason=str(error))
    if isinstance(error, OutOfMemory):
        return TrialFailure(key=key, kind="memory", reason=str(error), retry=0 < own_gpus() < 1)
    if is_out_of_space(error):
        return out_of_space(key, error, scratch)
    if isinstance(error, StorageAway | DataChanged):
        return TrialFailure(key=key, kind="lost", reason=error.message, retry=True)
    return TrialFailure(key=key, kind="error", reason="".join(traceback.format_exception(error)))


def check_receipt(spec: TrialSpec, applied: dict[str, Any]) -> None:
    """Compare what was applied with what was asked.

    Every knob of the strategy and `steps`, `batch`, `accumulate`, `lr`, `seed`, `amp` and `device` must be in
    `applied`. `retention` is a ratio of counts, so it may be off by half an image of the `majority_images`
    that the receipt states, and `dual_share` by half an epoch. A run with patience may make fewer steps, of
    whole epochs.

    Raises:
        ReceiptMismatch: Something differs or is missing.
    """
    if spec.fusion is not None:
        alone = {"strategy": spec.fusion.majority, "fusion": None}
        check_receipt(spec.model_copy(update=alone), applied["majority_model"])
    asked: dict[str, Any] = {
        **spec.strategy.knobs(),
        **{name: getattr(spec.train, name) for name in ("steps", "batch", "accumulate", "lr", "amp")},
        "seed": spec.seed,
        "device": own_device(),
    }
    asked["steps"] = spec.epochs * spec.train.eval_every
    if spec.train.patience:
        asked["steps"] = _steps_of_whole_epochs(spec, applied.get("steps"))
    slack = {
        "retention": 0.5 / max(1, applied.get("majority_images", 0)),
        "dual_share": 0.5 / spec.train.epochs if spec.strategy.division.dual_share else 0.0,
    }
    wrong = []
    for name, value in asked.items():
        got = applied.get(name)
        if not _same(got, value, slack.get(name, 0.0)):
            wrong.append(f"{name}: asked {value}, applied {got}")
    if wrong:
        raise ReceiptMismatch("; ".join(wrong))


def _same(got: Any, asked: Any, slack: float) -> bool:
    """Whether what was applied is what was asked: a number to within rounding and `slack`, or a word."""
    if isinstance(asked, str):
        return bool(got == asked)
    return got is not None and abs(got - asked) <= slack + TOLERANCE * max(1.0, abs(asked))


def _steps_of_whole_epochs(spec: TrialSpec, made: int | None) -> int:
    """The number of steps at which a run that made `made` of them may have stopped."""
    train = spec.train
    epochs = train.epochs if made is None else round(made / train.eval_every)
    return train.eval_every * min(max(epochs, 1), train.epochs)


def _check_exposure(exposure: float) -> None:
    """Refuse a share of the draws that is none: it was counted wrongly, and so was all beside it."""
    if not 0 <= exposure <= 1:
        raise ReceiptMismatch(f"exposure: a share of the draws, applied {exposure:g}")


def _check_finite(metrics: dict[str, float | None]) -> None:
    bad = [name for name, value in metrics.items() if value is not None and not math.isfinite(value)]
    if bad:
        raise Diverged(f"not finite at the end: {', '.join(bad)}")


class _FromCaller(Exception):
    """Carries an exception of `on_epoch` through the training code."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
