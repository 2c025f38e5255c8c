"""What each metric is: a name that needs no knowledge of the field, and a sentence."""

from trainables.contract.tasks import MERGED

# Metric -> name, and what it is. Of a metric per class the part before the slash.
METRICS = {
    "minority_recall": (
        "rare objects found",
        "share of the rare objects (for a classifier: images) that are found, the mean over the rare "
        "classes; for a detector at IoU 0.5 and at the confidence with the best mean F1",
    ),
    "minority_recall_worst": ("rare objects found, worst class", "the same of the worst rare class"),
    "minority_precision": (
        "precision of the rare class",
        "share of what is called rare that is; the mean over the rare classes",
    ),
    "minority_ap50": (
        "ranking of the rare class (AP50)",
        "average precision of the rare classes at IoU 0.5: whether true finds score above false ones, at "
        "whatever confidence",
    ),
    "minority_froc": (
        "rare objects found at few false alarms (FROC)",
        "mean recall of the rare classes at IoU 0.5 with so many false alarms for each object: 1/8, 1/4, "
        "1/2, 1, 2, 4, 8",
    ),
    "minority_recall_at_p50": (
        "rare objects found at precision 0.5",
        "the highest recall of the rare classes at a precision of 0.5 or more",
    ),
    "map50": ("overall mAP@50", "average precision at IoU 0.5, the mean over all classes"),
    "map50_95": (
        "overall mAP@50-95",
        "average precision, the mean over all classes and the IoU thresholds 0.5, 0.55, … 0.95",
    ),
    "macro_f1": ("macro F1", "F1 (harmonic mean of precision and recall), the mean over all classes"),
    "balanced_accuracy": ("balanced accuracy", "recall, the mean over all classes"),
    "accuracy": (
        "accuracy",
        "share of the images that are called by their class; where a split holds the rare classes more "
        "often than the training does, their images weigh less",
    ),
    "top2_accuracy": ("top-2 accuracy", "share of the images whose class is among the two likeliest"),
    "weighted_f1": ("weighted F1", "F1, the mean over all images' classes"),
    "nll": ("negative log-likelihood", "of the true classes, in nats per image; lower is better"),
    "ece": (
        "calibration error",
        "expected calibration error: how far confidence and accuracy are apart; lower is better",
    ),
    "classwise_ece": ("calibration error by class", "the same for each class, the mean; lower is better"),
    "false_alarms": ("false alarms per image", "boxes that are on nothing, per image; lower is better"),
    "threshold": ("confidence threshold", "boxes above it count"),
    "precision": ("precision", "share of what is called so that is"),
    "recall": ("recall", "share of the objects (or images) of a class that are found"),
    "recall_best_f1": (
        "recall at the class's best F1",
        "recall at the confidence that is best for this class",
    ),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "ap50": ("AP50", "average precision at IoU 0.5"),
    "froc": ("FROC", "as minority_froc, of one class"),
}
# What stands before a metric -> what it adds to the name, and what it is.
PREFIXES = {
    MERGED: ("on whole images", "what was found on tiles is merged and judged on the whole images"),
    "tuned/": ("tuned", "at thresholds or biases that were tuned on val (out of fold, when measured there)"),
    "deployed/": ("as exported", "of the weights that ship, one label per box, at their own threshold"),
    "calibrated/": ("calibrated", "at a temperature that was fitted on val"),
    "ultralytics/": ("as Ultralytics prints it", "read from smoothed curves, to compare with its tables"),
}

# What a page says without explaining it.
TERMS = {
    "baseline": "training as it is without any of this: what everything is measured against",
    "trial": "one strategy, trained once in the search",
    "seed": "what the luck of a training hangs on: with another seed it ends a little otherwise",
    "val split": "images that were not trained on; strategies were chosen by them",
    "test split": "images that were neither trained on nor chosen by, kept for the confirmation",
    "front": "the trials than which no other is better both to the right and upwards",
    "feasible, infeasible": "keeps all limits; breaks one",
    "exposure": "share of the images shown in training that hold a rare object",
    "collapsed": "a training that finds next to nothing of what the others find",
    "bound": "what holds but for a small chance, which is shared out over all that must hold",
}

# Knob -> what it does, for who has not seen the code.
KNOBS = {
    "retention": "share of the training images without a rare object that is used; 1 is all of them",
    "sampler_power": "how much more often images with a rare object are shown; 1 evens out all classes",
    "repeat_threshold": "classes on less than this share of the images are shown more often; 0 is off",
    "max_repeat": "the most often that an image may be shown, against evenly",
    "defer": "how far showing more often gives way, during training, to counting errors more",
    "focal_gamma": "how much more hard cases count in training than easy ones; 0 is off",
    "alpha_power": "how much more errors on the rare class count; 0 is off, 1 in proportion to its rarity",
    "alpha_prior": "whether rarity is that of the data (0) or of what is shown (1)",
    "alpha_cap": "the most that an error may count, against the least",
    "class_balance": "how much more errors on the rare class count, by effective numbers of images; 0 is off",
    "logit_tau": "how far the model is held to treat all classes as equally likely; 0 is off",
    "label_smoothing": "how far the model is kept from being too sure; 0 is off",
    "augment_minority": "how strongly images with a rare object are varied (turned, recoloured, …); 0 is off",
    "augment_rest": "how strongly all other images are varied; 0 is off",
    "copy_paste": "how often rare objects are pasted into other images; 0 is never",
    "mosaic": "how often four images are put together into one; 0 is never",
    "mixup": "how often two images are blended into one; 0 is never",
    "pretile_copies": "copies of each large image with a rare object, varied before it is cut into tiles",
    "pretile_fresh": "whether those copies are varied anew during training",
    "augment_variants": "how many fixed variants of an image there are; 0 varies it anew each time",
    "dual_share": "share of the training for a second model that learns the rare class alone; 0 is one model",
}


def short(metric: str) -> str:
    """A metric's name for people: `rare objects found, on whole images`.

    Example:
        >>> short("merged/minority_recall")
        'rare objects found, on whole images'
        >>> short("recall/cluster")
        'recall of cluster'
    """
    name, added = metric, []
    while (prefix := next((one for one in PREFIXES if name.startswith(one)), None)) is not None:
        added.append(PREFIXES[prefix][0])
        name = name.removeprefix(prefix)
    base, _, of_class = name.partition("/")
    words = METRICS[base][0] if base in METRICS else base
    of = f" of {of_class}" if of_class else ""
    return ", ".join([f"{words}{of}", *added])


def meaning(metric: str) -> str:
    """What a metric is, in a sentence without a full stop; empty of an unknown one."""
    said, name = [], metric
    while (prefix := next((one for one in PREFIXES if name.startswith(one)), None)) is not None:
        said.append(PREFIXES[prefix][1])
        name = name.removeprefix(prefix)
    base = name.partition("/")[0]
    known = METRICS.get(base)
    return "; ".join([known[1], *said]) if known else ""
