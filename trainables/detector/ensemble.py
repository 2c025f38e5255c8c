"""The one or two models that a run trains, one after the other, used as one detector.

With `dual_share` model A learns all classes but the minority's, then model B the minority's; in a fusion both
learn all, by strategies of their own. Each has its own warm-up, schedule and EMA, over its own steps, and is
believed in its own classes. The files that A goes on from keep beside B's, so that a run
goes on exactly in whichever of the two it was in.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.strategy import PLAIN
from trainables.contract.predictions import MINORITY_WEIGHTS, WEIGHTS, DetectionPredictions
from trainables.contract.trial import EpochMetrics, FusionSpec, OnEpoch, TrialFolder, TrialSpec
from trainables.data.boxes.listed import BoxData
from trainables.detector.measuring.evaluator import by_score, uncovered, with_shipped
from trainables.detector.shipping import as_file
from trainables.detector.strategy_run import CRITERION, STATE, StrategyRun
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.fusion import (
    fused,
    minority_threshold,
    of_classes,
    shift_between,
    without_covered,
)
from trainables.evaluation.operating_point import OperatingPoint

MAJORITY = "majority_"  # before the names of model A's files in a checkpoint


@dataclass(frozen=True)
class Ensemble:
    """Trained models.

    Attributes:
        runs: One that has learnt all classes; or two, of the majority's and of the minority's.
        val: What they find on val after the last epoch, as one.
        way: How that became one; None of one model.
    """

    runs: tuple[StrategyRun, ...]
    val: DetectionPredictions
    way: "Way | None" = None

    @property
    def minority_run(self) -> StrategyRun:
        """The one that the strategy was applied to."""
        return self.runs[-1]

    def predict_split(self, split: str) -> DetectionPredictions:
        """The EMA's predictions on a split; of `train`, on the images that hold a minority object."""
        found = [run.predict_split(split) for run in self.runs]
        return found[0] if self.way is None else self.way.of(found[0], found[1])

    def ship(
        self, predictions: DetectionPredictions, point: OperatingPoint, tuned: npt.NDArray[np.bool_]
    ) -> DetectionPredictions:
        """Fold an operating point into the EMAs, and add what they then find on the predictions' split.

        Args:
            predictions: Of a split, before.
            point: Fitted on val.
            tuned: (P,) which of the predictions count at its thresholds.
        """
        found = []
        for run in self.runs:
            shift = 0.0 if self.way is None or run is self.runs[0] else self.way.shift
            rows = run.found_with(point.bias + shift, point.conf, predictions.split)
            found.append(rows[np.isin(rows[:, 6], run.believed)])
        both = by_score(np.concatenate(found))
        if self.way is not None and self.way.suppress:
            both = uncovered(both, predictions.minority.tolist(), self.way.suppress)
        images = self.minority_run.images_of(predictions.split)
        return with_shipped(predictions, images, both, point, tuned)

    def weights(self, predictions: DetectionPredictions) -> dict[str, dict[str, Any]]:
        """File name -> checkpoint that `ultralytics.YOLO` loads."""
        names = (WEIGHTS, MINORITY_WEIGHTS)[: len(self.runs)]
        suppress = 0.0 if self.way is None else self.way.suppress
        return {
            name: as_file(
                run.ema.ema,
                run.args,
                run.yolo,
                predictions,
                believed=run.believed,
                suppress=suppress,
                merging=run.spec.data.merging,
                pixel_max=run.spec.data.pixel_max,
            )
            for name, run in zip(names, self.runs, strict=True)
        }


@dataclass(frozen=True)
class Way:
    """How two models' predictions become one's; found on val, the same for every split.

    Attributes:
        shift: Of the second one's logits.
        suppress: As of `FusionSpec`.
        least: Confidence of a box of the minority that suppresses.
    """

    shift: float
    suppress: float = 0.0
    least: float = 1.0

    @classmethod
    def on_val(cls, majority: DetectionPredictions, minority: DetectionPredictions, suppress: float) -> "Way":
        """As val has it."""
        shift = shift_between(majority, minority)
        return cls(shift, suppress, minority_threshold(fused(majority, minority, shift)))

    def of(self, majority: DetectionPredictions, minority: DetectionPredictions) -> DetectionPredictions:
        """Of both models' predictions of a split."""
        both = fused(majority, minority, self.shift)
        return without_covered(both, least=self.least, share=self.suppress) if self.suppress else both


def train_models(spec: TrialSpec, folder: TrialFolder, data: BoxData, on_epoch: OnEpoch) -> Ensemble:
    """Train what a strategy asks for, from the folder's checkpoint on if there is one.

    Args:
        spec: Of the run.
        folder: Its files.
        data: The data set.
        on_epoch: Told of each epoch, counted through both models. Before the second one begins what is
            measured is of the majority alone, and metrics of the minority are None.
    """
    if spec.strategy.division.dual_share == 0 and spec.fusion is None:
        run = StrategyRun(spec, folder, data, _measured(on_epoch))
        run.train()
        return Ensemble((run,), _on_val(run))
    of_a, of_b = divided(spec) if spec.fusion is None else beside(spec, spec.fusion)
    suppress = 0.0 if spec.fusion is None else spec.fusion.suppress
    minority = {data.class_names.index(name) for name in spec.data.minority}
    majority = set(range(len(data.class_names))) - minority
    in_b = folder.resume is not None and (folder.resume / STATE).is_file()
    told = _measured(on_epoch, as_measured=lambda found: of_classes(found, majority))
    learns = (None, None) if spec.fusion is not None else (majority, minority)
    first = StrategyRun(of_a, folder, data, told, learns=learns[0], believed=majority, prefix=MAJORITY)
    first.train()
    _keep_beside(folder)
    alone = _on_val(first)
    then = _measured(
        on_epoch,
        after=of_a.train.epochs,
        as_measured=lambda found: Way.on_val(alone, found, suppress).of(alone, found),
    )
    rest = folder if in_b else replace(folder, resume=None)
    second = StrategyRun(of_b, rest, data, then, learns=learns[1], believed=minority)
    second.train()
    other = _on_val(second)
    way = Way.on_val(alone, other, suppress)
    return Ensemble((first, second), way.of(alone, other), way)


def _on_val(run: StrategyRun) -> DetectionPredictions:
    """The predictions after the last epoch."""
    return run.predict_split("val") if run.predictions is None else run.predictions


def divided(spec: TrialSpec) -> tuple[TrialSpec, TrialSpec]:
    """What model A trains, and model B."""
    train, epochs = spec.train, spec.train.epochs
    second = round(spec.strategy.division.dual_share * epochs)
    assert 0 < second < epochs, "refused before a run is made"
    steps = [count * train.eval_every for count in (epochs - second, second)]
    seeds = (spec.seed, _second_seed(spec.seed))
    one = spec.strategy.model_copy(update={"division": PLAIN.division})
    of_a, of_b = (
        spec.model_copy(
            update={"strategy": strategy, "train": train.model_copy(update={"steps": n}), "seed": seed}
        )
        for strategy, n, seed in zip((PLAIN, one), steps, seeds, strict=True)
    )
    return of_a, of_b


def beside(spec: TrialSpec, fusion: FusionSpec) -> tuple[TrialSpec, TrialSpec]:
    """What model A trains, and model B, where each is trained in full."""
    alone = spec.model_copy(update={"fusion": None})
    return (
        alone.model_copy(update={"strategy": fusion.majority}),
        alone.model_copy(update={"seed": _second_seed(spec.seed)}),
    )


def _second_seed(seed: int) -> int:
    digest = hashlib.sha256(f"{seed}/minority".encode()).digest()
    return int.from_bytes(digest[:4]) % 2**31


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
