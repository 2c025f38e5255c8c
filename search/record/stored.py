"""Values as the JSON that a study stores, with the version of their schema.

What 0.1.0 stored says no version: it is version 1. A field that is added with a default needs no new one.
"""

import json
from typing import Any, TypeVar

from pydantic import BaseModel

from spaces.errors import UsageError

SCHEMA = 1

Value = TypeVar("Value", bound=BaseModel)


def packed(value: BaseModel, *, indent: int | None = None) -> str:
    """A value as JSON."""
    return json.dumps({"schema": SCHEMA, **json.loads(value.model_dump_json())}, indent=indent)


def unpacked(kind: type[Value], text: str) -> Value:
    """The value that `packed` or 0.1.0 wrote.

    Raises:
        UsageError: A newer version of rarecall wrote it.
    """
    plain: dict[str, Any] = json.loads(text)
    schema = plain.pop("schema", 1)
    if schema > SCHEMA:
        raise UsageError(
            f"the study stores {kind.__name__} in version {schema}, this rarecall reads up to {SCHEMA}",
            "it was made by a newer rarecall: install that one",
        )
    return kind.model_validate(plain)
