"""A study's request, as values that are checked in themselves. Reads no file and no data."""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from search.request.arms import MATCHED, known_arms
from search.request.computing.budget import Budget
from search.request.computing.launching import LaunchConfig
from search.request.computing.resources import Auto, Resources
from search.request.config_errors import no_such_strategy
from search.request.database_url import check_address, without_password
from search.request.guards import Guard
from search.request.space import expand_space
from spaces.frozen import LATER, Frozen
from spaces.ranges import Dimension, FloatRange
from spaces.strategy import COUNTS, FAMILY_OF, NAMED, SearchSpace, Strategy
from trainables.contract.tasks import LOWER_IS_BETTER, TASKS, Task
from trainables.contract.trial import DataSpec, Merging, Split, TrainSpec, TrialSpec, WholeImages

MAX_SEEDS = 200
# What may change while a study goes on, and of `search`.
FREE = frozenset({"budget", "compare", "confirm", "keep", "launch", "resources", "study_db", "tracking"})
FREE_SEARCH = frozenset({"trials", "trial_timeout_s", "checkpoint_s"})
MAX_TIMEOUT_S = 10**7  # a third of a year
ARMS = (*NAMED, *MATCHED)
LEAST_EPOCHS_OF_TWO = 3  # models of one run: then every share leaves each at least one

SamplerName = Literal["auto", "gp", "tpe", "nsga2", "random"]
TrackerName = Literal["mlflow", "wandb", "tensorboard"]


def _tried(dimension: Dimension) -> tuple[float, ...]:
    """Values that show whether a knob allows all of a dimension: its ends, and one by a range's start."""
    if isinstance(dimension, FloatRange):
        return (dimension.low, dimension.low + 1e-6 * (dimension.high - dimension.low), dimension.high)
    return dimension.ends()


class BaselineConfig(Frozen):
    """What every trial is compared with: a named strategy, trained with several seeds.

    Attributes:
        strategy: Its name.
        seeds: How many trainings, with seeds of their own.
    """

    strategy: str = "plain"
    seeds: int = Field(3, ge=1)

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NAMED:
            raise ValueError(no_such_strategy(name, NAMED))
        return name


class SearchConfig(Frozen):
    """How many trials, proposed by whom.

    Attributes:
        trials: How many are asked.
        sampler: Who proposes them.
        seed: Of the sampler and, times 1,000, of the trainings.
        trial_timeout_s: Seconds that a run may have a worker, from the moment it has got it; one that takes
            longer is ended and fails as `timeout`. Counts for the baseline's runs and for those of `confirm`
            and `compare`, too. A retry after a lost worker and one with `--resume` have all of it again.
        checkpoint_s: Seconds of training after which a run keeps what it can go on from, once the epoch ends;
            a lost worker costs a run no more. 0 for each epoch. Counts for the same runs.
    """

    trials: int = Field(40, ge=1)
    sampler: SamplerName = "auto"
    seed: int = Field(0, ge=0)
    trial_timeout_s: float | None = Field(None, gt=0, le=MAX_TIMEOUT_S)
    checkpoint_s: Annotated[float, LATER, Field(ge=0, le=MAX_TIMEOUT_S)] = 60.0


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


def _kind(data: Any) -> str:
    return "whole" if isinstance(data, dict | WholeImages) else "path"


def _how(resources: Any) -> str:
    return "asked" if isinstance(resources, dict | Resources) else "chosen"


# A path or a demo; or a mapping, whose errors are then told of its own keys alone.
Data = Annotated[Annotated[str, Tag("path")] | Annotated[WholeImages, Tag("whole")], Discriminator(_kind)]
Occupied = Annotated[Annotated[Auto, Tag("chosen")] | Annotated[Resources, Tag("asked")], Discriminator(_how)]


class StudyConfig(Frozen):
    """A study file, complete and checked in itself; `check_data` checks it against the data.

    Attributes:
        name: Of the study; it names its folder.
        task: `detection` or `classification`.
        data: A path, an address or a demo; or a mapping that names whole images and how they are cut.
        pixel_max: The value of 16-bit images that is white.
        merging: How tiles are merged; `auto`: core, and where it is confirmed or compared what was best on
            val.
        minority: Names of the rare classes; `auto`, the default, for those with less than a tenth of the
            largest class's objects.
        train: The training, the same for every strategy.
        objectives: Two metrics to be raised; the first decides. Unless named, those of the task.
        guards: What may not be lost: `{metric, max_drop}` or `{metric, floor}`. Unless named, the task's.
        baseline: What every trial is compared with.
        space: What is searched: a preset's name, or `{preset, KNOB: [low, high], KNOB: value, …}`. Unless
            named, the task's preset.
        search: How many trials, proposed by whom.
        confirm: How finalists are confirmed.
        compare: Which named strategies are set side by side.
        resources: What one trial occupies; `auto`: chosen by what the first run uses, in its first epoch.
        keep: Whose weights are left when the search has ended: those of the baseline and of the `front`, or
            of `all` trials.
        study_db: Address of the record's database; None for a file in the study's folder.
        budget: What the study may take, beside `search.trials`; None for no limit.
        launch: What `rarecall launch` asks a cluster for.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    task: Task
    data: Data
    pixel_max: int | None = Field(None, ge=1, le=65535)
    merging: Annotated[Merging | Literal["auto"], LATER] = "auto"
    minority: tuple[str, ...] | Literal["auto"]
    train: TrainSpec
    objectives: tuple[str, str]
    guards: tuple[Guard, ...]
    baseline: BaselineConfig = BaselineConfig()
    space: SearchSpace
    search: SearchConfig = SearchConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    compare: CompareConfig = CompareConfig()
    resources: Occupied = Resources()
    study_db: str | None = Field(None, repr=False)  # it may hold a password
    keep: Annotated[Literal["front", "all"], LATER] = "front"
    tracking: Annotated[tuple[TrackerName, ...], LATER] = ()  # who is told of the runs, too
    budget: Annotated[Budget | None, LATER] = None
    launch: Annotated[LaunchConfig, LATER] = LaunchConfig()

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, raw: Any) -> Any:
        """Fill what depends on the task, and expand the space's preset."""
        if not isinstance(raw, dict):
            return raw
        task = raw.get("task")
        known: dict[str, Any] = {}
        if task in TASKS:
            guards = [{"metric": name, "max_drop": drop} for name, drop in TASKS[task].max_drops.items()]
            known = {"objectives": TASKS[task].objectives, "guards": guards, "space": task}
        filled = {**known, "minority": "auto", **raw}
        return {**filled, "space": expand_space(filled["space"])} if "space" in filled else filled

    @field_validator("minority", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            if not value:
                raise ValueError("at least one class, or auto")
            names = [str(name) for name in value]  # yaml reads the class name 3 as a number
            if len(set(names)) < len(names):
                raise ValueError(f"a class is named twice in {', '.join(names)}")
            return names
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
            if knob in COUNTS and dimension.kind == "float":
                found.append(f"{knob}: whole numbers only, e.g. {{choices: [0, 1, 2, 3]}}, got a range")
                continue
            for value in _tried(dimension) if knob in FAMILY_OF else ():
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

    @field_validator("study_db")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None:
            check_address(url)
        return url

    @model_validator(mode="after")
    def _used(self) -> Self:
        """Refuse a knob, a strategy or a training argument that the task's trainable does not have."""
        traits = TASKS[self.task]
        if isinstance(self.data, WholeImages):
            if self.task != "detection":
                raise ValueError(f"data: whole images are for detection, the task is {self.task}")
            if self.pixel_max is not None:
                raise ValueError(
                    f"pixel_max: for 16-bit images, and whole images have 8, got {self.pixel_max}"
                )
        for knob in self.space.dimensions:
            if knob in traits.lacks:
                raise ValueError(f"space.{knob}: not for {self.task}")
        for task, argument in ((task, name) for task, of in TASKS.items() for name in of.arguments):
            value = getattr(self.train, argument)
            if self.task != task and value != TrainSpec.model_fields[argument].default:
                raise ValueError(f"train.{argument}: only for {task}, got {value}")
        if traits.highest_lr is not None and self.train.lr > traits.highest_lr:
            raise ValueError(
                f"train.lr: at most {traits.highest_lr:g} for {traits.library}, got {self.train.lr:g}"
            )
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
                if name in NAMED and NAMED[name].division.dual_share:
                    self._check_two_models(f"{key}: '{name}'")
        shares = self.space.dimensions.get("dual_share")
        if shares is not None and max(shares.ends()) > 0:
            self._check_two_models("space.dual_share:")
        return self

    def _check_two_models(self, what: str) -> None:
        if self.train.epochs < LEAST_EPOCHS_OF_TWO:
            raise ValueError(
                f"{what} two models need at least {LEAST_EPOCHS_OF_TWO} epochs, train.steps are "
                f"{self.train.epochs} of eval_every"
            )

    def data_spec(self, minority: tuple[str, ...]) -> DataSpec:
        """The data as a run sees them; `minority` is what `auto` means, or what was asked."""
        merging = "core" if self.merging == "auto" else self.merging
        if isinstance(self.data, WholeImages):
            return DataSpec(
                source=self.data.images,
                minority=minority,
                merging=merging,
                tile=self.data.tile,
                annotations=self.data.annotations,
                group_by=self.data.group_by,
            )
        return DataSpec(source=self.data, minority=minority, pixel_max=self.pixel_max, merging=merging)

    def spec(self, strategy: Strategy, data: DataSpec, *, seed: int, split: Split = "val") -> TrialSpec:
        """The run of `strategy` in this study."""
        return TrialSpec(
            task=self.task, strategy=strategy, data=data, train=self.train, seed=seed, split=split
        )

    def kept(self) -> Self:
        """As it is stored, and compared with what is stored: without the password of `study_db`."""
        if self.study_db is None:
            return self
        return self.model_copy(update={"study_db": without_password(self.study_db)})

    def fixed(self) -> dict[str, str]:
        """What may not change once runs are made: key -> hash. A field that comes later is `LATER`."""
        plain = self.keyed()
        plain["search"] = {name: value for name, value in plain["search"].items() if name not in FREE_SEARCH}
        return {
            key: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
            for key, value in plain.items()
            if key not in FREE
        }

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """What a table and a picture show: the objectives and what is guarded."""
        return tuple(dict.fromkeys([*self.objectives, *(guard.metric for guard in self.guards)]))

    @property
    def front_metrics(self) -> tuple[str, ...]:
        """What a table of the front shows: the same, and at what price a recall was reached."""
        return tuple(dict.fromkeys([*self.shown_metrics, *TASKS[self.task].operating_point]))

    @property
    def baseline_strategy(self) -> Strategy:
        """The strategy that `baseline.strategy` names."""
        return NAMED[self.baseline.strategy]
