"""What is wrong with a study file, in a person's words: one line per error, with the key and what was got."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel

KINDS = {
    "guards": {"max_drop", "floor"},
    "space": {"float", "choice", "dimensions"},
    "data": {"path", "whole"},
    "resources": {"asked", "chosen"},
}


def line(item: Any, model: type[BaseModel]) -> str:
    """One of pydantic's errors as `key: what, got`.

    Args:
        item: An entry of `ValidationError.errors()`.
        model: What was validated, to know the keys that could have been meant.
    """
    place = [str(part) for part in item["loc"]]
    kinds = KINDS.get(place[0] if place else "", set())  # there pydantic also names which kind it tried
    if len(place) > 1 and kinds:
        key = [place.pop()] if item["type"] in {"missing", "extra_forbidden"} else []
        place = [part for part in place if part not in kinds] + key
    where = ".".join(place)
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{did_you_mean(place[-1], _siblings(place, model))}"
    if item["type"] == "missing":
        return f"{where}: missing{' (or floor)' if where.endswith('max_drop') else ''}"
    message = item["msg"].removeprefix("Value error, ").replace("Input should", "should")
    message = message.replace("a valid tuple", "a list")
    message = re.sub(
        r"a valid dictionary or (instance of|object to extract) \w+( from)?", "a mapping", message
    )
    got = item.get("input")
    plain = isinstance(got, (str, int, float, bool, type(None))) and place != [
        "study_db"
    ]  # it holds a password
    shown = f", got {_in_yaml(got)}" if plain and "got" not in message and str(got) not in message else ""
    return f"{where + ': ' if where else ''}{message}{shown}"


def no_such_strategy(name: str, known: Iterable[str]) -> str:
    """What is said of a name that is none of `known`."""
    return f"no such strategy '{name}'" + (
        did_you_mean(name, known) or "\nhint: `rarecall strategies` lists them"
    )


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """A hint line with the nearest of `known`, or nothing."""
    close = difflib.get_close_matches(got, list(known), n=1, cutoff=0.6)
    return f"\nhint: did you mean '{close[0]}'?" if close else ""


def _in_yaml(value: str | float | None) -> str:
    """A plain value as the person has written it, but for its quotes."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _siblings(place: list[str], model: type[BaseModel]) -> list[str]:
    """The keys that stand beside the one at `place`."""
    if len(place) > 1 and place[0] == "guards":
        return ["metric", "max_drop", "floor"]
    for key in place[:-1]:
        field = model.model_fields.get(key)
        inner = next(_models_in(None if field is None else field.annotation), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a value may be of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
