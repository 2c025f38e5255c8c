"""Values as the JSON that a study stores, with the version of their schema.

What 0.1.0 stored says no version: it is version 1. A field that is added with a default needs no new one.
"""

import json
import math
from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from spaces.errors import RunError, UsageError
from trainables.contract.kept import of_few
from trainables.contract.trial import EpochMetrics, Outcome, TrialReport

SCHEMA = 1
LATE = 0.75  # share of the epochs after which a curve should have levelled

Value = TypeVar("Value", bound=BaseModel)


def packed(value: BaseModel, *, indent: int | None = None) -> str:
    """A value as JSON."""
    return json.dumps({"schema": SCHEMA, **json.loads(value.model_dump_json())}, indent=indent)


def unpacked(kind: type[Value], text: Any, where: str = "the study's record") -> Value:
    """The value that `packed` or 0.1.0 wrote.

    Args:
        kind: Of the value.
        text: JSON; of a damaged record anything.
        where: It was found, for messages.

    Raises:
        UsageError: A newer version of rarecall wrote it.
        RunError: It is damaged.
    """
    damaged = RunError(f"{where} is damaged, perhaps cut: it holds no {kind.__name__}")
    try:
        plain = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise damaged from None
    schema = plain.pop("schema", 1) if isinstance(plain, dict) else None
    if not isinstance(schema, int):
        raise damaged
    if schema > SCHEMA:
        raise UsageError(
            f"{where} holds {kind.__name__} in version {schema}, this rarecall reads up to {SCHEMA}",
            "it was made by a newer rarecall: install that one",
        )
    try:
        return kind.model_validate(plain)
    except ValidationError:
        raise damaged from None


def decisive(outcome: Outcome, metrics: Collection[str], minority: Collection[str]) -> Outcome:
    """An outcome as the database keeps it: what decides. All of it lies beside the run's weights.

    Of the curve it is the epoch after `LATE` of them and the last, without the rest's classes; those are left
    out of the metrics, too, where there are many: MySQL takes 64 KiB a value.

    Args:
        outcome: Of a run.
        metrics: Names of those that are kept in any case.
        minority: Names of the minority classes.
    """
    if not isinstance(outcome, TrialReport):
        return outcome
    last = outcome.curve[-1].epoch
    points = [point for point in outcome.curve if point.epoch in (math.ceil(LATE * last), last)]
    curve = [
        EpochMetrics(epoch=point.epoch, metrics=of_few(point.metrics, minority, metrics, most=0))
        for point in points
    ]
    found = of_few(outcome.metrics, minority, metrics)
    return outcome.model_copy(update={"curve": tuple(curve), "metrics": found})


def refuse_another_run(what: str, key: str, outcome: Outcome) -> None:
    """An outcome that is stored with a trial, or with a run of an experiment, is of its own run.

    Args:
        what: It is stored with, for messages.
        key: `TrialSpec.key` of that.
        outcome: As stored.

    Raises:
        RunError: It is of another run.
    """
    if outcome.key != key:
        raise RunError(
            f"{what} is run {key}, but what is stored with it is of run {outcome.key}",
            "study.yaml or the record was changed, or an older rarecall has mixed it up: make a new study",
        )
