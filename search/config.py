"""`study.yaml` -> `StudyConfig`. Reports every error of the file at once; reads no pixels and starts nothing."""

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from search.guards import Guard, MaxDrop
from search.metrics import LOWER_IS_BETTER, metric_names
from spaces.errors import UsageError
from spaces.frozen import Frozen
from spaces.strategy import FAMILY_OF, NAMED, SearchSpace, Strategy
from trainables.dataset import DataSummary, rare_classes
from trainables.sampling import holds_minority
from trainables.trial import DataSpec, Task, TrainSpec, TrialSpec

PRESETS = Path(__file__).parent.parent / "spaces" / "presets"
LATER = {
    "compare",
    "confirm",
    "storage",
    "fusion",
    "halving",
}  # keys of the design that this version does not have

SamplerName = Literal["auto", "gp", "tpe", "nsga2", "random"]


class BaselineConfig(Frozen):
    """What every trial is compared with: a named strategy, trained with several seeds."""

    strategy: str = "plain"
    seeds: int = Field(3, ge=1)

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NAMED:
            raise ValueError(f"no such strategy '{name}'{_hint(name, NAMED)}")
        return name


class SearchConfig(Frozen):
    """How many trials, proposed by whom."""

    trials: int = Field(40, ge=1)
    sampler: SamplerName = "auto"
    seed: int = Field(0, ge=0)


class Resources(Frozen):
    """What one trial occupies on a worker."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)


class StudyConfig(Frozen):
    """A study file, complete and checked in itself; `check_data` checks it against the data."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: Task
    data: str
    minority: tuple[str, ...] | Literal["auto"]
    train: TrainSpec
    objectives: tuple[str, str]
    guards: tuple[Guard, ...]
    baseline: BaselineConfig = BaselineConfig()
    space: SearchSpace
    search: SearchConfig = SearchConfig()
    resources: Resources = Resources()
    study_db: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, raw: Any) -> Any:
        """Fill what depends on the task, and expand the space's preset."""
        if not isinstance(raw, dict) or raw.get("task") not in OBJECTIVES:
            return raw
        task = raw["task"]
        filled = {
            "objectives": OBJECTIVES[task],
            "guards": GUARDS[task],
            "space": task,
            "minority": "auto",
            **raw,
        }
        return {**filled, "space": expand_space(filled["space"])}

    @field_validator("minority", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [str(name) for name in value]  # yaml reads the class name 3 as a number
        return value if value == "auto" else [str(value)]

    @field_validator("objectives")
    @classmethod
    def _two_different(cls, value: tuple[str, str]) -> tuple[str, str]:
        if value[0] == value[1]:
            raise ValueError(f"two different metrics, got '{value[0]}' twice")
        lower = [metric for metric in value if metric in LOWER_IS_BETTER]
        if lower:
            raise ValueError(f"objectives are maximised, and lower is better for '{lower[0]}'")
        return value

    def spec(self, strategy: Strategy, data: DataSpec, *, seed: int) -> TrialSpec:
        """The run of `strategy` in this study."""
        return TrialSpec(task=self.task, strategy=strategy, data=data, train=self.train, seed=seed)

    @property
    def baseline_strategy(self) -> Strategy:
        """The strategy that `baseline.strategy` names."""
        return NAMED[self.baseline.strategy]


OBJECTIVES: dict[str, tuple[str, str]] = {
    "detection": ("minority_recall", "map50_95"),
    "classification": ("minority_recall", "macro_f1"),
    "toy": ("minority_recall", "map50_95"),
}
GUARDS: dict[str, list[dict[str, Any]]] = {
    "detection": [{"metric": "map50_95", "max_drop": 0.03}, {"metric": "minority_ap50", "max_drop": 0.0}],
    "classification": [{"metric": "macro_f1", "max_drop": 0.03}, {"metric": "accuracy", "max_drop": 0.03}],
    "toy": [{"metric": "map50_95", "max_drop": 0.03}, {"metric": "minority_ap50", "max_drop": 0.0}],
}


def load_config(path: Path) -> StudyConfig:
    """Read and check a study file.

    Raises:
        UsageError: The file is missing, is no yaml, or has errors; all of them are in the message.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UsageError(f"{path.name}: a mapping of keys expected, got {type(raw).__name__}")
    later = [f"{path.name}: {key}: not yet in this version" for key in raw if key in LATER]
    known = {key: value for key, value in raw.items() if key not in LATER}
    try:
        config = StudyConfig.model_validate(known)
    except ValidationError as error:
        raise UsageError(
            "\n".join(later + [_line(path.name, item, raw) for item in error.errors()])
        ) from None
    problems = later + [f"{path.name}: {problem}" for problem in _problems(config)]
    if problems:
        raise UsageError("\n".join(problems))
    return config.model_copy(
        update={
            "data": _absolute(config.data, path.parent),
            "train": config.train.model_copy(
                update={"model": _absolute_model(config.train.model, path.parent)}
            ),
        }
    )


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
            hint = _hint(name, summary.class_names) or f"\nhint: classes: {', '.join(summary.class_names)}"
            problems.append(f"minority: no class '{name}' in the data{hint}")
            continue
        problems += [
            f"minority: class '{name}' has no object in {split}"
            for split in ("train", "val")
            if summary.splits[split].objects[name] == 0
        ]
    if set(summary.class_names) <= set(minority):
        problems.append("minority: every class is named, so there is no majority")
    valid = metric_names(config.task, summary.class_names)
    for where, metric in _named_metrics(config):
        if metric not in valid:
            problems.append(f"{where}: no such metric '{metric}'{_hint(metric, valid)}")
    problems += _retention_problems(config, summary, minority)
    if problems:
        raise UsageError("\n".join(problems))
    return DataSpec(source=config.data, minority=minority)


def expand_space(raw: Any) -> Any:
    """`detection`, or `{preset: detection, retention: [0.3, 0.5], …}`, as the fields of a `SearchSpace`.

    A knob given here replaces the preset's; `first` likewise. Without `preset` only what is given is searched.
    """
    if isinstance(raw, str):
        raw = {"preset": raw}
    if not isinstance(raw, dict) or "dimensions" in raw:
        return raw
    rest = dict(raw)
    preset = rest.pop("preset", None)
    dimensions: dict[str, Any] = {}
    first: Any = ()
    if preset is not None:
        known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
        if preset not in known:
            raise ValueError(f"space: no such preset '{preset}'{_hint(str(preset), known)}")
        stored = read_yaml(PRESETS / f"{preset}.yaml")
        dimensions, first = stored["dimensions"], stored["first"]
    first = rest.pop("first", first)
    return {"dimensions": {**dimensions, **rest}, "first": first}


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; plain yaml silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Parse a yaml file.

    Raises:
        UsageError: It is missing or malformed.
    """
    try:
        return yaml.load(path.read_text(), Loader=_OnceLoader)  # noqa: S506 - derives from SafeLoader
    except FileNotFoundError:
        raise UsageError(f"no such study file: {path}", "examples/digits.yaml is one to start from") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as yaml: {error}") from None


def _problems(config: StudyConfig) -> list[str]:
    """What only shows when several keys are seen together, and needs no data."""
    found = []
    for where, metric in _named_metrics(config):
        base = metric_names(config.task, ())
        if "/" not in metric and metric not in base:
            found.append(f"{where}: no such metric '{metric}'{_hint(metric, base)}")
    for knob, dimension in config.space.dimensions.items():
        if knob not in FAMILY_OF:
            found.append(f"space.{knob}: no such knob{_hint(knob, FAMILY_OF)}")
            continue
        for value in dimension.ends():
            try:
                Strategy.from_knobs({knob: value})
            except ValidationError as error:
                found.append(f"space.{knob}: {error.errors()[0]['msg']}, got {value:g}")
    for index, name in enumerate(config.space.first):
        if name not in NAMED:
            found.append(f"space.first.{index}: no such strategy '{name}'{_hint(name, NAMED)}")
    if not config.space.dimensions:
        found.append("space: nothing to search\nhint: `space: detection` or `space: classification`")
    return found


def _named_metrics(config: StudyConfig) -> list[tuple[str, str]]:
    return [(f"objectives.{i}", metric) for i, metric in enumerate(config.objectives)] + [
        (f"guards.{i}.metric", guard.metric) for i, guard in enumerate(config.guards)
    ]


def _retention_problems(config: StudyConfig, summary: DataSummary, minority: tuple[str, ...]) -> list[str]:
    """A retention that leaves nothing, or for a classifier no image of some class."""
    ids = {summary.class_names.index(name) for name in minority if name in summary.class_names}
    classes = summary.splits["train"].classes_per_image
    rare = int(holds_minority(classes, ids).sum())
    majority = len(classes) - rare
    found = []
    for where, retention in _retentions(config):
        kept = round(retention * majority)
        if rare + kept == 0:
            found.append(f"{where}: retention {retention:g} leaves no training image of {len(classes)}")
        elif config.task == "classification" and kept < len(summary.class_names) - len(ids):
            found.append(f"{where}: retention {retention:g} leaves {kept} images for the majority classes")
    return found


def _retentions(config: StudyConfig) -> list[tuple[str, float]]:
    space = config.space.dimensions.get("retention")
    searched = [("space.retention", value) for value in space.ends()] if space is not None else []
    return [*searched, ("baseline.strategy", config.baseline_strategy.sampling.retention)]


def _line(file: str, item: Any, raw: dict[str, Any]) -> str:
    """One pydantic error as `file: key: what, got`."""
    place = [str(part) for part in item["loc"] if part not in {"max_drop", "floor", "float", "choice"}]
    where = ".".join(place).replace("space.dimensions.", "space.")
    if item["type"] == "extra_forbidden":
        siblings = _siblings(place)
        return f"{file}: {where}: unknown key{_hint(place[-1], siblings)}"
    if item["type"] == "missing":
        return f"{file}: {where}: missing"
    message = item["msg"].removeprefix("Value error, ").replace("Input should", "should")
    got = item.get("input")
    shown = (
        f", got {got!r}"
        if isinstance(got, (str, int, float, bool, type(None))) and "got" not in message
        else ""
    )
    return f"{file}: {where + ': ' if where else ''}{message}{shown}"


def _siblings(place: list[str]) -> list[str]:
    models: dict[str, Any] = {
        "train": TrainSpec,
        "baseline": BaselineConfig,
        "search": SearchConfig,
        "resources": Resources,
        "guards": MaxDrop,
    }
    if len(place) == 1:
        return [*StudyConfig.model_fields]
    return [*models[place[0]].model_fields] if place[0] in models else []


def _hint(got: str, known: Any) -> str:
    close = difflib.get_close_matches(got, [str(name) for name in known], n=1, cutoff=0.6)
    return f"\nhint: did you mean '{close[0]}'?" if close else ""


def _absolute(source: str, folder: Path) -> str:
    return source if source.startswith("demo:") else str((folder / source).resolve())


def _absolute_model(model: str, folder: Path) -> str:
    """A model that lies beside the study file is named by its path; any other name is the trainable's own."""
    beside = folder / model
    return str(beside.resolve()) if beside.is_file() else model
