"""Reading a yaml file that a person wrote, or that came with somebody's data: it may hold anything."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import UsageError

LARGEST_FILE = 1_000_000  # bytes; a study file has some hundred
MOST_VALUES = 100_000  # that the aliases of a file may unfold to
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # steers a terminal, ends a path; none has a use here


class _Loader(yaml.SafeLoader):
    """Plain values only: no dates, no key twice in a mapping, no control characters, no bombs of aliases."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _unfolded(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"its aliases unfold to more than {MOST_VALUES} values", node.start_mark
            )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and _CONTROL.search(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a control character", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # an integer of thousands of digits
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, Hashable):
                problem = f"{'a list' if isinstance(key, list) else 'a mapping'} as a key"
            elif key in seen:
                problem = f"key '{key}' stands twice"
            if problem is not None:
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# A name such as 2026-11-27 is a word, whether there is such a day or not.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in listed if tag != "tag:yaml.org,2002:timestamp"]
    for first, listed in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, each alias counted like what it names; a circle is without end."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # what comes back here while it is counted is in a circle
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_unfolded(part, known) for part in parts)
    return known[id(node)]


def read_yaml(path: Path, *, errors: str = "strict") -> Any:
    """Parse a yaml file.

    Args:
        path: Of the file.
        errors: What becomes of bytes that are no UTF-8, as of `str.encode`.

    Raises:
        UsageError: It is missing, no file, too large, or malformed.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
            raise UsageError(f"{path}: not a file")
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: has {path.stat().st_size / 1e6:.0f} MB; this is no such yaml")
        return yaml.load(path.read_text(encoding="utf-8-sig", errors=errors), Loader=_Loader)
    except FileNotFoundError:
        raise UsageError(f"no such study file: {path}", "examples/digits.yaml is one to start from") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not readable as yaml: it is not UTF-8 at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not readable as yaml: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: not readable as yaml: it is nested too deeply") from None
