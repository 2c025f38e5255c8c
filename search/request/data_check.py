"""Whether a study can be run on its data: classes, splits, per-class metrics, retention. Counts only."""

from collections.abc import Collection

from search.request.arms import needs_whole_images
from search.request.config import StudyConfig
from search.request.config_errors import did_you_mean
from spaces.errors import UsageError
from trainables.contract.tasks import TASKS, metric_names
from trainables.contract.trial import DataSpec, WholeImages
from trainables.data.summary import DataSummary, rare_classes
from trainables.strategy.sampling import retain


def check_data(config: StudyConfig, summary: DataSummary) -> DataSpec:
    """Check the study against its data.

    Returns:
        The data with `minority: auto` resolved.

    Raises:
        UsageError: With every problem found.
    """
    minority = rare_classes(summary) if config.minority == "auto" else config.minority
    problems = []
    for split in ("train", "val"):
        if split not in summary.splits or summary.splits[split].images == 0:
            problems.append(f"data: the {split} split is empty")
    if problems:
        raise UsageError("\n".join(problems))
    for name in minority:
        if name not in summary.class_names:
            hint = (
                did_you_mean(name, summary.class_names)
                or f"\nhint: classes: {', '.join(summary.class_names)}"
            )
            problems.append(f"minority: no class '{name}' in the data{hint}")
            continue
        problems += [
            f"minority: class '{name}' has no object in {split}"
            for split in ("train", "val")
            if summary.splits[split].objects[name] == 0
        ]
    if set(summary.held_classes()) <= set(minority):
        problems.append("minority: every class with an object is named, so there is no majority")
    valid = metric_names(config.task, summary.class_names, whole_images=bool(summary.whole_images))
    for where, metric in _named_metrics(config):
        if metric not in valid:
            problems.append(f"{where}: no such metric '{metric}'{did_you_mean(metric, valid)}")
    problems += _retention_problems(config, summary, minority)
    problems += _copies_problems(config, summary, minority)
    if problems:
        raise UsageError("\n".join(problems))
    return config.data_spec(minority)


def why_no_copies(summary: DataSummary, minority: Collection[str]) -> str:
    """Why no whole image of these data can be copied and cut anew; empty if they can.

    Args:
        summary: Of the data.
        minority: Names of its minority classes.
    """
    if not summary.whole_images:
        return "it augments whole images before they are cut, and these data are no tiles of whole images"
    ids = {summary.class_names.index(name) for name in minority if name in summary.class_names}
    gone = [file for file, held in summary.absent.items() if not held.isdisjoint(ids)]
    return f"it needs the whole images, and {len(gone)} are gone, e.g. {gone[0]}" if gone else ""


def _copies_problems(config: StudyConfig, summary: DataSummary, minority: tuple[str, ...]) -> list[str]:
    """What asks for copies of whole images that there cannot be."""
    if isinstance(config.data, WholeImages) and not summary.whole_images:
        return []  # they are not cut yet
    why = why_no_copies(summary, minority)
    knob = config.space.dimensions.get("pretile_copies")
    searched = ["space.pretile_copies"] if knob is not None and max(knob.ends()) > 0 else []
    named = {
        "baseline.strategy": (config.baseline.strategy,),
        "confirm.strategies": config.confirm.strategies,
        "compare.strategies": config.compare.strategies,
        "compare.reference": (config.compare.reference,),
    }
    asking = [
        f"{key}: '{name}'" for key, names in named.items() for name in names if needs_whole_images(name)
    ]
    return [f"{where}: {why}" for where in (*searched, *asking)] if why else []


def _named_metrics(config: StudyConfig) -> list[tuple[str, str]]:
    return [(f"objectives.{i}", metric) for i, metric in enumerate(config.objectives)] + [
        (f"guards.{i}.metric", guard.metric) for i, guard in enumerate(config.guards)
    ]


def _retention_problems(config: StudyConfig, summary: DataSummary, minority: tuple[str, ...]) -> list[str]:
    """A retention that leaves nothing, or for a classifier no image of some class."""
    ids = {summary.class_names.index(name) for name in minority if name in summary.class_names}
    classes = summary.splits["train"].classes_per_image
    found = []
    for where, retention in _retentions(config):
        kept = retain(classes, ids, retention=retention, seed=config.search.seed)
        left = frozenset[int]().union(*(classes[i] for i in kept))
        gone = [name for class_id, name in enumerate(summary.class_names) if class_id not in left]
        if len(kept) == 0:
            found.append(f"{where}: retention {retention:g} leaves no training image of {len(classes)}")
        elif TASKS[config.task].one_class_per_image and gone:
            found.append(
                f"{where}: retention {retention:g} leaves no training image of {', '.join(gone)}\n"
                "hint: a higher one, or name such rare classes in minority"
            )
    return found


def _retentions(config: StudyConfig) -> list[tuple[str, float]]:
    space = config.space.dimensions.get("retention")
    searched = [("space.retention", value) for value in space.ends()] if space is not None else []
    return [*searched, ("baseline.strategy", config.baseline_strategy.sampling.retention)]
