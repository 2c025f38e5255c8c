"""The one or two models that a run trains, one after the other, used as one detector.

With `dual_share` model A learns all classes but the minority's, then model B the minority's. Each has its own
warm-up, schedule and EMA, over its own steps. The files that A goes on from keep beside B's, so that a run
goes on exactly in whichever of the two it was in.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.strategy import PLAIN
from trainables.contract.predictions import MINORITY_WEIGHTS, WEIGHTS, DetectionPredictions
from trainables.contract.trial import EpochMetrics, OnEpoch, TrialFolder, TrialSpec
from trainables.data.boxes.listed import BoxData
from trainables.detector.measuring.evaluator import by_score, with_shipped
from trainables.detector.strategy_run import CRITERION, STATE, StrategyRun
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.fusion import fused, of_classes, shift_between
from trainables.evaluation.operating_point import OperatingPoint

MAJORITY = "majority_"  # before the names of model A's files in a checkpoint


@dataclass(frozen=True)
class Ensemble:
    """Trained models.

    Attributes:
        runs: One that has learnt all classes; or two, of the majority's and of the minority's.
        val: What they find on val after the last epoch, as one.
        shift: Of the second one's logits, by val.
    """

    runs: tuple[StrategyRun, ...]
    val: DetectionPredictions
    shift: float = 0.0

    @property
    def minority_run(self) -> StrategyRun:
        """The one that the strategy was applied to."""
        return self.runs[-1]

    def predict_split(self, split: str) -> DetectionPredictions:
        """The EMA's predictions on a split; of `train`, on the images that hold a minority object."""
        found = [run.predict_split(split) for run in self.runs]
        return found[0] if len(found) == 1 else fused(found[0], found[1], self.shift)

    def ship(
        self, predictions: DetectionPredictions, point: OperatingPoint, tuned: npt.NDArray[np.bool_]
    ) -> DetectionPredictions:
        """Fold an operating point into the EMAs, and add what they then find on the predictions' split.

        Args:
            predictions: Of a split, before.
            point: Fitted on val.
            tuned: (P,) which of the predictions count at its thresholds.
        """
        rows = []
        for run in self.runs:
            shift = self.shift if run is not self.runs[0] else 0.0
            found = run.found_with(point.bias + shift, point.conf, predictions.split)
            rows.append(found[np.isin(found[:, 6], run.learns)])
        images = self.minority_run.images_of(predictions.split)
        return with_shipped(predictions, images, by_score(np.concatenate(rows)), point, tuned)

    def weights(self, predictions: DetectionPredictions) -> dict[str, dict[str, Any]]:
        """File name -> checkpoint that `ultralytics.YOLO` loads."""
        names = (WEIGHTS, MINORITY_WEIGHTS)[: len(self.runs)]
        return {name: run.weights(predictions) for name, run in zip(names, self.runs, strict=True)}


def train_models(spec: TrialSpec, folder: TrialFolder, data: BoxData, on_epoch: OnEpoch) -> Ensemble:
    """Train what a strategy asks for, from the folder's checkpoint on if there is one.

    Args:
        spec: Of the run.
        folder: Its files.
        data: The data set.
        on_epoch: Told of each epoch, counted through both models. Before the second one begins what is
            measured is of the majority alone, and metrics of the minority are None.
    """
    if spec.strategy.division.dual_share == 0:
        run = StrategyRun(spec, folder, data, _measured(on_epoch))
        run.train()
        return Ensemble((run,), _on_val(run))
    of_a, of_b = divided(spec)
    minority = {data.class_names.index(name) for name in spec.data.minority}
    majority = set(range(len(data.class_names))) - minority
    in_b = folder.resume is not None and (folder.resume / STATE).is_file()
    told = _measured(on_epoch, as_measured=lambda found: of_classes(found, majority))
    first = StrategyRun(of_a, folder, data, told, learns=majority, prefix=MAJORITY)
    first.train()
    _keep_beside(folder)
    alone = _on_val(first)
    then = _measured(on_epoch, after=of_a.train.epochs, as_measured=lambda found: _both(alone, found)[0])
    rest = folder if in_b else TrialFolder(folder.root)
    second = StrategyRun(of_b, rest, data, then, learns=minority)
    second.train()
    return Ensemble((first, second), *_both(alone, _on_val(second)))


def _on_val(run: StrategyRun) -> DetectionPredictions:
    """The predictions after the last epoch."""
    return run.predict_split("val") if run.predictions is None else run.predictions


def _both(
    majority: DetectionPredictions, minority: DetectionPredictions
) -> tuple[DetectionPredictions, float]:
    """Both models' predictions of val as one's, and how the second's are shifted for that."""
    shift = shift_between(majority, minority)
    return fused(majority, minority, shift), shift


def divided(spec: TrialSpec) -> tuple[TrialSpec, TrialSpec]:
    """What model A trains, and model B."""
    train, epochs = spec.train, spec.train.epochs
    second = round(spec.strategy.division.dual_share * epochs)
    assert 0 < second < epochs, "refused before a run is made"
    steps = [count * train.eval_every for count in (epochs - second, second)]
    digest = hashlib.sha256(f"{spec.seed}/minority".encode()).digest()
    seeds = (spec.seed, int.from_bytes(digest[:4]) % 2**31)
    one = spec.strategy.model_copy(update={"division": PLAIN.division})
    of_a, of_b = (
        spec.model_copy(
            update={"strategy": strategy, "train": train.model_copy(update={"steps": n}), "seed": seed}
        )
        for strategy, n, seed in zip((PLAIN, one), steps, seeds, strict=True)
    )
    return of_a, of_b


def _measured(
    on_epoch: OnEpoch,
    *,
    after: int = 0,
    as_measured: Callable[[DetectionPredictions], DetectionPredictions] = lambda found: found,
) -> Callable[[int, DetectionPredictions], None]:
    """What a run tells of its epochs, counted from `after` on; `as_measured` of its predictions."""

    def told(epoch: int, predictions: DetectionPredictions) -> None:
        on_epoch(EpochMetrics(epoch=after + epoch, metrics=detection_metrics(as_measured(predictions))))

    return told


def _keep_beside(folder: TrialFolder) -> None:
    """Have model A's files in the checkpoint that is written, too, when they were in that gone on from."""
    for name in (f"{MAJORITY}{STATE}", f"{MAJORITY}{CRITERION}"):
        if not (folder.checkpoint / name).exists():
            assert folder.resume is not None, "else it has just been written"
            shutil.copy(folder.resume / name, folder.checkpoint / name)
