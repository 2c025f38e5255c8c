"""Reading a yaml file that a person wrote."""

from pathlib import Path
from typing import Any

import yaml

from spaces.errors import UsageError


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
        return yaml.load(path.read_text(), Loader=_OnceLoader)
    except FileNotFoundError:
        raise UsageError(f"no such study file: {path}", "examples/digits.yaml is one to start from") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as yaml: {_where(error)}") from None


def _where(error: Exception) -> str:
    """What is wrong, and in which line; without the line itself, which may hold a password."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, said = error.problem_mark, [error.context, error.problem]
        return f"line {mark.line + 1}, column {mark.column + 1}: {', '.join(filter(None, said))}"
    return str(error)
