"""The names that objectives and guards may use, per task. What they mean is said where they are computed."""

METRICS: dict[str, tuple[str, ...]] = {
    "detection": (
        "minority_recall",
        "minority_recall_worst",
        "minority_precision",
        "minority_ap50",
        "minority_froc",
        "map50",
        "map50_95",
    ),
    "classification": (
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
    "toy": ("minority_recall", "minority_ap50", "map50_95"),
}
PER_CLASS: dict[str, tuple[str, ...]] = {
    "detection": ("precision", "recall", "recall_best_f1", "ap50", "map50_95", "froc"),
    "classification": ("precision", "recall", "f1"),
    "toy": (),
}
# Measured and shown, but too rough at few objects to decide anything.
REPORTED: dict[str, tuple[str, ...]] = {
    "detection": ("minority_recall_at_p50",),
    "classification": (),
    "toy": (),
}
LOWER_IS_BETTER = frozenset({"nll", "ece", "classwise_ece", "calibrated/nll", "calibrated/ece"})


def metric_names(task: str, class_names: tuple[str, ...]) -> list[str]:
    """Every metric a guard or an objective of this task may name; per-class ones read `recall/<class>`."""
    return [*METRICS[task], *(f"{metric}/{name}" for metric in PER_CLASS[task] for name in class_names)]
