"""`study.yaml` -> `StudyConfig`. Reports every error of the file at once; reads no data, starts nothing."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.request.computing.resources import AUTO, may_use_gpu
from search.request.config import StudyConfig
from search.request.config_errors import did_you_mean, line
from spaces.errors import UsageError
from spaces.strategy import FAMILY_OF
from spaces.yaml_file import read_yaml
from trainables.contract.tasks import MERGED, TASKS, metric_names
from trainables.contract.trial import TrainSpec, WholeImages
from trainables.storage.address import is_address, parsed

HIGHEST_SEED = 4_000_000  # a thousand training seeds each, and NumPy's old generator takes them up to 2**32
LATER = {"storage", "fusion", "halving"}  # keys of the design that this version does not have


def load_config(path: Path, *, stored: bool = False) -> StudyConfig:
    """Read and check a study file.

    Args:
        path: The file.
        stored: It is a study's own: what an earlier version ran and this one would not is read too.

    Raises:
        UsageError: The file is missing, is no yaml, or has errors; all of them are in the message.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UsageError(f"{path.name}: a mapping of keys expected, got {type(raw).__name__}")
    problems = [f"{key}: not yet in this version" for key in raw if key in LATER]
    request = {key: value for key, value in raw.items() if key not in LATER}
    try:
        config = StudyConfig.model_validate(request)
    except ValidationError as error:
        problems += [line(item, StudyConfig) for item in error.errors()]
    else:
        problems += _no_addresses(config.data) + ([] if stored else not_runnable(config))
    problems += _unknown_names(request)
    if problems:
        raise UsageError("\n".join(f"{path.name}: {problem}" for problem in problems))
    return config.model_copy(
        update={
            "data": _absolute(config.data, path.parent),
            "train": _absolute_train(config.train, path.parent),
        }
    )


def not_runnable(config: StudyConfig) -> list[str]:
    """What a run would not do as it is asked to, a line each."""
    found, gpu = [], 0.0 if config.resources == AUTO else config.resources.gpu
    if config.search.seed > HIGHEST_SEED:
        found.append(f"search.seed: at most {HIGHEST_SEED}, got {config.search.seed:.4g}")
    if gpu > 1:
        found.append(
            f"resources.gpu: at most 1, got {gpu:g}: a run trains on one GPU\n"
            "hint: runs beside each other use the others; `gpu: 0.5` lets two share one"
        )
    if config.budget is not None and config.budget.of_gpus and not may_use_gpu(config.resources):
        found.append(
            f"budget.{config.budget.of_gpus[0]}: never reached, as resources.gpu is 0\n"
            "hint: `budget: {hours: 4}`, or `resources: {gpu: 1}`"
        )
    if TASKS[config.task].amp_needs_gpu and config.train.amp != "off" and not may_use_gpu(config.resources):
        found.append(
            f"train.amp: {config.train.amp} is off without a GPU for {config.task}, and resources.gpu is 0\n"
            "hint: `resources: {gpu: 1}`, or `amp: off`"
        )
    return found


def _unknown_names(request: dict[str, Any]) -> list[str]:
    """Metrics, knobs and strategies that do not exist; also looks at a request that is wrong elsewhere."""
    task = request.get("task")
    if task not in TASKS:
        return []
    found = []
    known = metric_names(task, (), whole_images=True)
    for where, metric in _requested_metrics(request):
        if metric in TASKS[task].reported:
            found.append(f"{where}: '{metric}' is only reported: too rough at few objects to decide anything")
        elif metric not in known:
            near = did_you_mean(metric, known)
            # What comes after a slash may be a class, which only the data can tell.
            per_class = any(metric.removeprefix(MERGED).startswith(f"{of}/") for of in TASKS[task].per_class)
            if "/" not in metric or (near and not per_class):
                found.append(f"{where}: no such metric '{metric}'{near}")
    space = request.get("space")
    if isinstance(space, dict):
        knobs = space.get("dimensions", space)
        unknown = [knob for knob in knobs if knob not in {*FAMILY_OF, "preset", "first"}]
        found += [f"space.{knob}: no such knob{did_you_mean(str(knob), FAMILY_OF)}" for knob in unknown]
    return found


def _requested_metrics(request: dict[str, Any]) -> list[tuple[str, str]]:
    objectives, guards = request.get("objectives"), request.get("guards")
    found = [
        (f"objectives.{i}", name) for i, name in enumerate(objectives if isinstance(objectives, list) else [])
    ]
    for i, guard in enumerate(guards if isinstance(guards, list) else []):
        if isinstance(guard, dict):
            found.append((f"guards.{i}.metric", guard.get("metric", "")))
    return [(where, name) for where, name in found if isinstance(name, str) and name]


def _no_addresses(source: str | WholeImages) -> list[str]:
    """What is wrong with the addresses of storages that are named as data, a line each."""
    named = {"data": source} if isinstance(source, str) else _paths(source)
    found = []
    for key, place in named.items():
        if is_address(place):
            try:
                parsed(place)
            except UsageError as error:
                found.append(f"{key}: {error.message}\nhint: {error.hint}")
    return found


def _paths(source: WholeImages) -> dict[str, str]:
    """What is named of whole images by a path or an address."""
    named = {"images": source.images, "annotations": source.annotations, "group_by": source.group_by}
    given = {key: path for key, path in named.items() if path is not None}
    pattern = given.get("group_by", "")
    if not (pattern.endswith(".csv") or is_address(pattern)):
        given.pop("group_by", None)
    return {f"data.{key}": path for key, path in given.items()}


def _absolute(source: str | WholeImages, folder: Path) -> str | WholeImages:
    if isinstance(source, WholeImages):
        found = {key.removeprefix("data."): _placed(path, folder) for key, path in _paths(source).items()}
        return source.model_copy(update=found)
    return source if source.startswith("demo:") else _placed(source, folder)


def _placed(path: str, folder: Path) -> str:
    """An address is one already."""
    return str(parsed(path) if is_address(path) else (folder / path).resolve())


def _absolute_train(train: TrainSpec, folder: Path) -> TrainSpec:
    weights = None if train.weights is None else str((folder / train.weights).resolve())
    return train.model_copy(update={"model": _absolute_model(train.model, folder), "weights": weights})


def _absolute_model(model: str, folder: Path) -> str:
    """A model that lies beside the study file is named by its path; any other name is the trainable's own."""
    beside = folder / model
    return str(beside.resolve()) if beside.is_file() else model
