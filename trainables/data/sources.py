"""Which reader a study's `data:` needs. The one place that knows the data sources by name."""

from spaces.errors import UsageError
from trainables.contract.trial import Task
from trainables.data.boxes.data_set import describe_detection
from trainables.data.demo import cytology, digits
from trainables.data.images.data_set import describe_classification
from trainables.data.summary import DataSummary, existing
from trainables.worker import toy

DEMOS = {
    "demo:digits": ("classification", digits.describe),
    "demo:cytology": ("detection", cytology.describe),
    "demo:toy": ("toy", toy.describe),
}


def describe(source: str, task: Task) -> DataSummary:
    """Count what `source` holds.

    Raises:
        UsageError: The source does not exist, belongs to another task, or cannot be read.
    """
    if source.startswith("demo:"):
        if source not in DEMOS:
            raise UsageError(f"data: no such demo '{source}'", f"demos: {', '.join(DEMOS)}")
        demo_task, count = DEMOS[source]
        if demo_task != task:
            raise UsageError(f"data: {source} is for {demo_task}, the study's task is {task}")
        return count()
    path = existing(source)
    if task == "classification":
        if not path.is_dir() and path.suffix != ".csv":
            raise UsageError(f"data: {path} is neither a folder of images nor a CSV")
        return describe_classification(path)
    if path.suffix not in {".yaml", ".yml", ".json"}:
        raise UsageError(f"data: {path} is neither a YOLO data.yaml nor a COCO json")
    return describe_detection(path)
