"""`study.yaml` -> `StudyConfig`. Reports every error of the file at once; reads no data, starts nothing."""

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from search.request.arms import MATCHED, known_arms
from search.request.config_errors import did_you_mean, line, no_such_strategy
from search.request.guards import Guard
from search.request.yaml_file import read_yaml
from spaces.errors import UsageError
from spaces.frozen import Frozen
from spaces.strategy import FAMILY_OF, NAMED, WORDS, SearchSpace, Strategy
from trainables.contract.tasks import LOWER_IS_BETTER, REPORTED, metric_names
from trainables.contract.trial import LACKS, DataSpec, Split, Task, TrainSpec, TrialSpec

PRESETS = Path(str(files("spaces"))) / "presets"
# Training arguments that other tasks' trainables do not have.
ONLY_FOR = {
    "close_mosaic": "detection",
    "patience": "classification",
    "tune": "classification",
    "tune_min_precision": "classification",
    "weights": "classification",
}
LATER = {"storage", "fusion", "halving"}  # keys of the design that this version does not have
MAX_SEEDS = 200
ARMS = (*NAMED, *MATCHED)

SamplerName = Literal["auto", "gp", "tpe", "nsga2", "random"]


class BaselineConfig(Frozen):
    """What every trial is compared with: a named strategy, trained with several seeds."""

    strategy: str = "plain"
    seeds: int = Field(3, ge=1)

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NAMED:
            raise ValueError(no_such_strategy(name, NAMED))
        return name


class SearchConfig(Frozen):
    """How many trials, proposed by whom."""

    trials: int = Field(40, ge=1)
    sampler: SamplerName = "auto"
    seed: int = Field(0, ge=0)


class ConfirmConfig(Frozen):
    """How a search's finalists are confirmed on the test split.

    Attributes:
        finalists: How many of the search's trials, at most.
        strategies: Named strategies that are confirmed beside them.
        seeds: Fresh seeds of each candidate at the first look.
        baseline_seeds: Fresh seeds of the baseline at the first look.
        more_seeds: Seeds that the second look adds to the baseline and to each candidate still open; 0 for a
            single look with the whole alpha.
        min_gain: Least gain in the first objective, absolute.
        alpha: Probability that anything is accepted wrongly, over all candidates and looks.
    """

    finalists: int = Field(3, ge=0, le=20)
    strategies: tuple[str, ...] = ()
    seeds: int = Field(5, ge=2, le=MAX_SEEDS)
    baseline_seeds: int = Field(10, ge=2, le=MAX_SEEDS)
    more_seeds: int = Field(5, ge=0, le=MAX_SEEDS)
    min_gain: float = Field(0.05, ge=0, lt=1)
    alpha: float = Field(0.05, gt=0, le=0.5)

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _each_named(names)

    @field_validator("more_seeds")
    @classmethod
    def _enough(cls, value: int) -> int:
        if value == 1:
            raise ValueError("0 for a single look, or at least 2, got 1")
        return value


class CompareConfig(Frozen):
    """Which named strategies are set side by side.

    Attributes:
        strategies: The arms beside the reference; empty for all that the task has.
        reference: The arm that the others are measured against.
        seeds: Of each arm.
        reference_seeds: Of the reference, which every difference shares.
        split: Exploring on `test` uses it up, and the study's ledger says so.
    """

    strategies: tuple[str, ...] = ()
    reference: str = "plain"
    seeds: int = Field(5, ge=2, le=MAX_SEEDS)
    reference_seeds: int = Field(10, ge=2, le=MAX_SEEDS)
    split: Split = "val"

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _each_named(names)

    @field_validator("reference")
    @classmethod
    def _known_reference(cls, name: str) -> str:
        return _each_named((name,))[0]


def _each_named(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in ARMS:
            raise ValueError(no_such_strategy(name, ARMS))
    if len(set(names)) < len(names):
        raise ValueError(f"a strategy is named twice in {', '.join(names)}")
    return names


class Resources(Frozen):
    """What one trial occupies on a worker."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)

    @field_validator("gpu")
    @classmethod
    def _whole_above_one(cls, value: float) -> float:
        """Ray shares one GPU among trials; of several it gives only whole ones."""
        if value > 1 and not value.is_integer():
            raise ValueError(f"above 1 a whole number, got {value:g}")
        return value


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
    confirm: ConfirmConfig = ConfirmConfig()
    compare: CompareConfig = CompareConfig()
    resources: Resources = Resources()
    study_db: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, raw: Any) -> Any:
        """Fill what depends on the task, and expand the space's preset."""
        if not isinstance(raw, dict):
            return raw
        task = raw.get("task")
        known = (
            {"objectives": OBJECTIVES[task], "guards": GUARDS[task], "space": task}
            if task in OBJECTIVES
            else {}
        )
        filled = {**known, "minority": "auto", **raw}
        return {**filled, "space": expand_space(filled["space"])} if "space" in filled else filled

    @field_validator("minority", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            if not value:
                raise ValueError("at least one class, or auto")
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

    @field_validator("space")
    @classmethod
    def _within_limits(cls, space: SearchSpace) -> SearchSpace:
        """Every end of every dimension is a value that its knob allows."""
        found = []
        for knob, dimension in space.dimensions.items():
            for value in dimension.ends() if knob in FAMILY_OF else ():
                try:
                    Strategy.from_knobs({knob: value})
                except ValidationError as error:
                    found.append(
                        f"{knob}: {error.errors()[0]['msg']}, got {value:g}".replace("Input should", "should")
                    )
        found += [f"first: {no_such_strategy(name, NAMED)}" for name in space.first if name not in NAMED]
        if not space.dimensions:
            found.append("nothing to search\nhint: `space: detection` or `space: classification`")
        if found:
            raise ValueError("; ".join(found))
        return space

    @model_validator(mode="after")
    def _used(self) -> Self:
        """Refuse a knob, a strategy or a training argument that the task's trainable does not have."""
        for knob in self.space.dimensions:
            if knob in LACKS[self.task]:
                raise ValueError(f"space.{knob}: not for {self.task}")
        for argument, task in ONLY_FOR.items():
            value = getattr(self.train, argument)
            if self.task != task and value != TrainSpec.model_fields[argument].default:
                raise ValueError(f"train.{argument}: only for {task}, got {value}")
        if self.task == "detection" and self.train.lr > 1:
            raise ValueError(f"train.lr: at most 1 for Ultralytics, got {self.train.lr:g}")
        named = {
            "baseline.strategy": (self.baseline.strategy,),
            "confirm.strategies": self.confirm.strategies,
            "compare.strategies": self.compare.strategies,
            "compare.reference": (self.compare.reference,),
        }
        for key, names in named.items():
            for name in names:
                if name not in known_arms(self.task):
                    raise ValueError(f"{key}: '{name}' is not for {self.task}")
        return self

    def spec(self, strategy: Strategy, data: DataSpec, *, seed: int, split: Split = "val") -> TrialSpec:
        """The run of `strategy` in this study."""
        return TrialSpec(
            task=self.task, strategy=strategy, data=data, train=self.train, seed=seed, split=split
        )

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
    problems = [f"{key}: not yet in this version" for key in raw if key in LATER]
    request = {key: value for key, value in raw.items() if key not in LATER}
    try:
        config = StudyConfig.model_validate(request)
    except ValidationError as error:
        problems += [line(item, StudyConfig) for item in error.errors()]
    problems += _unknown_names(request)
    if problems:
        raise UsageError("\n".join(f"{path.name}: {problem}" for problem in problems))
    return config.model_copy(
        update={
            "data": _absolute(config.data, path.parent),
            "train": _absolute_train(config.train, path.parent),
        }
    )


def expand_space(raw: Any) -> Any:
    """`detection`, or `{preset: detection, retention: [0.3, 0.5], …}`, as the fields of a `SearchSpace`.

    A knob given here replaces the preset's; so does `first`. Without `preset` only what is given is searched.
    A word that stands for a knob's value (`alpha_prior: sampled`) becomes its number.
    """
    if isinstance(raw, str):
        raw = {"preset": raw}
    if not isinstance(raw, dict):
        raise ValueError(f"space: a preset's name or a mapping of knobs, got {raw!r}")
    if "dimensions" in raw:
        return raw
    rest = dict(raw)
    preset = rest.pop("preset", None)
    dimensions: dict[str, Any] = {}
    first: Any = ()
    if preset is not None:
        known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
        if preset not in known:
            raise ValueError(f"space: no such preset '{preset}'{did_you_mean(str(preset), known)}")
        stored = read_yaml(PRESETS / f"{preset}.yaml")
        dimensions, first = stored["dimensions"], stored["first"]
    first = rest.pop("first", first)
    given = {knob: _in_numbers(value, WORDS.get(knob, {})) for knob, value in rest.items()}
    return {"dimensions": {**dimensions, **given}, "first": first}


def _in_numbers(value: Any, words: dict[str, float]) -> Any:
    """`value`, or each of a list or of `choices`, with its words as numbers; others stay, to be refused."""
    if isinstance(value, list):
        return [_in_numbers(each, words) for each in value]
    if isinstance(value, dict):
        return {key: _in_numbers(each, words) for key, each in value.items()}
    return words.get(value, value) if isinstance(value, str) else value


def _unknown_names(request: dict[str, Any]) -> list[str]:
    """Metrics, knobs and strategies that do not exist; also looks at a request that is wrong elsewhere."""
    task = request.get("task")
    if task not in OBJECTIVES:
        return []
    found = []
    known = metric_names(task, ())
    for where, metric in _requested_metrics(request):
        if metric in REPORTED[task]:
            found.append(f"{where}: '{metric}' is only reported: too rough at few objects to decide anything")
        elif "/" not in metric and metric not in known:
            found.append(f"{where}: no such metric '{metric}'{did_you_mean(metric, known)}")
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


def _absolute(source: str, folder: Path) -> str:
    return source if source.startswith("demo:") else str((folder / source).resolve())


def _absolute_train(train: TrainSpec, folder: Path) -> TrainSpec:
    weights = None if train.weights is None else str((folder / train.weights).resolve())
    return train.model_copy(update={"model": _absolute_model(train.model, folder), "weights": weights})


def _absolute_model(model: str, folder: Path) -> str:
    """A model that lies beside the study file is named by its path; any other name is the trainable's own."""
    beside = folder / model
    return str(beside.resolve()) if beside.is_file() else model
