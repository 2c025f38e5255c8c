"""What each task is: what it measures, lacks, takes and defaults to. Values only.

To add a task: its name in `Task` and an entry in `TASKS`, one in `worker.by_task` (what trains it and checks
its model), and one in `data.sources` (what reads its data).
"""

from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "detection", "toy"]
ROUNDING = 1e-9  # metrics nearer than this are equal: 0.50 - 0.48 - 0.02 is 1.7e-17
MERGED = "merged/"  # before a metric: measured on whole images, on what was found on their tiles, merged
NO_DIRECTION = frozenset({"threshold"})  # neither more nor less of it is better
LOWER_IS_BETTER = frozenset(
    {
        "nll",
        "ece",
        "classwise_ece",
        "calibrated/nll",
        "calibrated/ece",
        "deployed/false_alarms",
        f"{MERGED}deployed/false_alarms",
    }
)
# All others lie in [0, 1], so a difference in [-1, 1].
UNLIMITED = frozenset({"nll", "calibrated/nll", "deployed/false_alarms", f"{MERGED}deployed/false_alarms"})
_ON_TILES_ALONE = "tuned/"


@dataclass(frozen=True)
class TaskTraits:
    """One task. What a metric means is said where it is computed.

    Attributes:
        metrics: That objectives and guards may name.
        per_class: Likewise, as `recall/<class>`.
        reported: Measured and shown, but too rough at few objects to decide anything.
        operating_point: In every table of the front beside what decides, since a recall alone says nothing.
        ranking: The metric that a verdict does not let fall, guarded or not: rescaling scores alone lifts
            recall, but not this. None if the task has no such metric.
        objectives: Unless the study file says otherwise.
        max_drops: Of the guards unless the study file says otherwise: metric -> largest drop.
        lacks: Knobs that its trainable does not have: refused before anything trains, and off in the receipt.
        arguments: Training arguments that no other task's trainable has.
        library: What its trainable trains with.
        highest_lr: That the library takes; None for any.
        amp_needs_gpu: Whether mixed precision is off on a CPU, whatever is asked.
        arms: What `compare` runs unless the study file names its arms; the first is the reference.
        unfit: Arms that it cannot use, though it has the knobs.
        one_class_per_image: Whether an image is of one class, so that each must keep a training image.
        evaluator: Version of how its metrics are measured; those of two versions do not mix.
        leaves_predictions: Whether a run leaves them, so that the split's own error can be told.
    """

    metrics: tuple[str, ...]
    per_class: tuple[str, ...]
    objectives: tuple[str, str]
    max_drops: dict[str, float]
    arms: tuple[str, ...]
    reported: tuple[str, ...] = ()
    operating_point: tuple[str, ...] = ()
    ranking: str | None = None
    lacks: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    library: str = "torch"
    highest_lr: float | None = None
    amp_needs_gpu: bool = False
    unfit: tuple[str, ...] = ()
    one_class_per_image: bool = False
    evaluator: int = 1
    leaves_predictions: bool = True


_DETECTOR_ARMS = (
    "plain",
    "filtered",
    "filtered_weighted",
    "undersampled_30_augmented",
    "undersampled_40_augmented",
    "undersampled_50_augmented",
    "undersampled_40",
    "weighted_as_undersampled_40",
    "weighted",
    "weighted_augmented",
    "repeat_factor",
    "class_weighted",
    "focal",
)

TASKS: dict[Task, TaskTraits] = {
    "detection": TaskTraits(
        metrics=(
            "minority_recall",
            "minority_recall_worst",
            "minority_precision",
            "minority_ap50",
            "minority_froc",
            "map50",
            "map50_95",
            "tuned/minority_recall",
            "tuned/minority_recall_worst",
            "tuned/minority_precision",
            "deployed/minority_recall",
            "deployed/minority_recall_worst",
            "deployed/minority_precision",
            "deployed/false_alarms",
        ),
        per_class=(
            "precision",
            "recall",
            "recall_best_f1",
            "ap50",
            "map50_95",
            "froc",
            "tuned/precision",
            "tuned/recall",
            "deployed/precision",
            "deployed/recall",
        ),
        reported=(
            "minority_recall_at_p50",
            "ultralytics/minority_recall",
            "ultralytics/minority_recall_worst",
            "ultralytics/minority_precision",
        ),
        evaluator=2,
        operating_point=("minority_precision", "threshold"),
        ranking="minority_ap50",
        objectives=("minority_recall", "map50_95"),
        max_drops={"map50_95": 0.03, "minority_ap50": 0.0},
        lacks=("class_balance", "logit_tau", "label_smoothing", "defer"),
        arguments=("close_mosaic",),
        library="Ultralytics",
        highest_lr=1.0,
        amp_needs_gpu=True,
        arms=(
            *_DETECTOR_ARMS,
            "copy_paste",
            "weighted_copy_paste",
            "mosaic",
            "dual_model",
            "dual_model_weighted",
            "pretile_3",
            "pretile_fresh_3",
            "augmented_as_pretile_3",
            "augmented_frozen_as_pretile_3",
        ),
    ),
    "classification": TaskTraits(
        metrics=(
            "minority_recall",
            "minority_recall_worst",
            "macro_f1",
            "balanced_accuracy",
            "accuracy",
            "top2_accuracy",
            "weighted_f1",
            "nll",
            "ece",
            "classwise_ece",
            "tuned/minority_recall",
            "tuned/minority_recall_worst",
            "tuned/macro_f1",
            "tuned/balanced_accuracy",
            "tuned/accuracy",
            "calibrated/nll",
            "calibrated/ece",
        ),
        per_class=("precision", "recall", "f1"),
        objectives=("minority_recall", "macro_f1"),
        max_drops={"macro_f1": 0.03, "accuracy": 0.03},
        lacks=(
            "copy_paste",
            "mosaic",
            "mixup",
            "dual_share",
            "pretile_copies",
            "pretile_fresh",
            "augment_variants",
        ),
        arguments=("patience", "tune", "tune_min_precision", "weights"),
        arms=(
            "plain",
            "weighted",
            "weighted_half",
            "focal",
            "focal_alpha",
            "minority_augmented",
            "logit_adjusted",
            "balanced_softmax",
            "class_balanced",
            "deferred",
            "undersampled_40",
            "weighted_as_undersampled_40",
            "class_weighted",
            "weighted_augmented",
        ),
        unfit=("filtered", "filtered_weighted"),  # a classifier has to see the majority's classes
        one_class_per_image=True,
    ),
    "toy": TaskTraits(
        metrics=("minority_recall", "minority_ap50", "map50_95"),
        per_class=(),
        objectives=("minority_recall", "map50_95"),
        max_drops={"map50_95": 0.03, "minority_ap50": 0.0},
        arms=_DETECTOR_ARMS,
        leaves_predictions=False,
    ),
}


def metric_names(task: Task, class_names: tuple[str, ...], *, whole_images: bool = False) -> list[str]:
    """Every metric a guard or an objective may name; per-class ones read `recall/<class>`.

    Args:
        task: Of the study.
        class_names: Of the data.
        whole_images: Whether the data are tiles whose whole images are known.
    """
    traits = TASKS[task]
    names = [*traits.metrics, *(f"{metric}/{name}" for metric in traits.per_class for name in class_names)]
    merged = [f"{MERGED}{name}" for name in names if not name.startswith(_ON_TILES_ALONE)]
    return [*names, *merged] if whole_images else names


def on_whole_images(metric: str) -> str:
    """The name of the same metric of whole images; itself if it is one, or has none.

    Example:
        >>> on_whole_images("minority_recall")
        'merged/minority_recall'
    """
    return metric if metric.startswith((MERGED, _ON_TILES_ALONE)) else f"{MERGED}{metric}"
