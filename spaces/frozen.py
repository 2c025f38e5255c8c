"""The base of every value that crosses a file or a process: immutable, and no key is ever ignored."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Later:
    """Marks a field that came after 0.1.0: `gamma: Annotated[float, LATER] = 0.0`.

    At its default it is left out of `keyed`, which would else rename every run that was stored before.
    """


LATER = Later()


class Frozen(BaseModel):
    """A value object; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def keyed(self) -> dict[str, Any]:
        """Plain values of all fields, less those marked `LATER` that are at their default."""
        plain = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if LATER in field.metadata and value == field.get_default(call_default_factory=True):
                del plain[name]
            elif isinstance(value, Frozen):
                plain[name] = value.keyed()
        return plain
