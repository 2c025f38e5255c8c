"""The base of every value that crosses a file or a process: immutable, and no key is ever ignored."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value object; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
