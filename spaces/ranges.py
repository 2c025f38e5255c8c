"""One searched dimension: a range or a choice. Knows nothing of what the dimension means."""

from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BeforeValidator, Field, model_validator

from spaces.frozen import Frozen


class Suggests(Protocol):
    """The part of an Optuna trial that a dimension needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float:
        """A value in [low, high]."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of `choices`."""


class FloatRange(Frozen):
    """A real interval, both ends included; in yaml `[low, high]` or `{low: …, high: …, log: true}`."""

    kind: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got [{self.low:g}, {self.high:g}]")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range starts above 0, got low = {self.low:g}")
        return self

    def suggest(self, trial: Suggests, name: str) -> float:
        """The trial's value for this dimension, in [low, high]."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        """Whether `value` can come out of `suggest`."""
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def ends(self) -> tuple[float, ...]:
        """The values to validate the dimension's limits with."""
        return (self.low, self.high)


class Choice(Frozen):
    """A finite set of values; in yaml `{choices: [0.3, 0.4, 0.5]}`, or one bare value that is then fixed."""

    kind: Literal["choice"] = "choice"
    choices: tuple[float, ...] = Field(min_length=1)

    def suggest(self, trial: Suggests, name: str) -> float:
        """The trial's value for this dimension; a single choice is not asked for, to keep the space small."""
        if len(self.choices) == 1:
            return self.choices[0]
        return float(trial.suggest_categorical(name, self.choices))

    def contains(self, value: Any) -> bool:
        """Whether `value` can come out of `suggest`."""
        return value in self.choices

    def ends(self) -> tuple[float, ...]:
        """The values to validate the dimension's limits with."""
        return self.choices


def _from_yaml(value: Any) -> Any:
    """`[a, b]` is a range, a bare number a fixed value; what is already a mapping or a dimension stays."""
    if isinstance(value, bool):
        raise ValueError(f"a number, a range [low, high] or {{choices: […]}}, got {value}")
    if isinstance(value, (int, float)):
        return {"kind": "choice", "choices": [value]}
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError(
                f"a range is [low, high]; for {len(value)} single values write {{choices: {list(value)}}}"
            )
        return {"kind": "float", "low": value[0], "high": value[1]}
    if not isinstance(value, (dict, FloatRange, Choice)):
        raise ValueError(f"a number, a range [low, high] or {{choices: […]}}, got {value!r}")
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "choice" if "choices" in value else "float", **value}
    return value


Dimension = Annotated[
    Annotated[FloatRange | Choice, Field(discriminator="kind")],
    BeforeValidator(_from_yaml),
]
