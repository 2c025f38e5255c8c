"""What a `data.yaml` says, key by key; of a COCO json what one would say."""

from pathlib import Path
from typing import Any

from spaces.errors import UsageError
from spaces.yaml_file import read_yaml
from trainables.data.files import ALL, SPLITS, path_in


def description(path: Path) -> dict[str, Any]:
    """What a `data.yaml` says, or what one would say for a COCO json.

    Raises:
        UsageError: There is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"data: no such file: {path}")
    return {ALL: path.name} if path.suffix == ".json" else _described(path)


def _described(path: Path) -> dict[str, Any]:
    described = read_yaml(path, errors="replace")
    if not isinstance(described, dict):
        raise UsageError(f"{path}: a mapping with train, val and names, got {type(described).__name__}")
    return described


def entries_in(path: Path, described: dict[str, Any]) -> dict[str, list[Any]]:
    """Split, or `all` -> what is listed for it.

    Raises:
        UsageError: A split is missing, or there are both.
    """
    wanted = [split for split in (*SPLITS, ALL) if described.get(split) is not None]
    if ALL in wanted and len(wanted) > 1:
        raise UsageError(f"{path}: either '{ALL}', or splits, got {', '.join(wanted)}")
    for split in ("train", "val"):
        if split not in wanted and wanted != [ALL]:
            raise UsageError(
                f"{path}: key '{split}' is missing",
                f"{split}: a folder of images, a list file or a COCO json; `{ALL}:` is split by source image",
            )
    return {
        split: described[split] if isinstance(described[split], list) else [described[split]]
        for split in wanted
    }


def root_of(path: Path, described: dict[str, Any]) -> Path:
    """The folder that its other paths are relative to.

    Raises:
        UsageError: No path can be so.
    """
    return path_in(path.parent, str(described.get("path") or ""), f"{path}: path")


def class_names_in(path: Path, described: dict[str, Any]) -> tuple[str, ...]:
    """What `names:` says, in class-id order.

    Raises:
        UsageError: It does not name each class once.
    """
    names = described.get("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise UsageError(f"{path}: names: ids must run from 0 without a gap, got {list(names)}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UsageError(f"{path}: key 'names' is missing or empty", "names: [cell, cluster]")
    if not all(isinstance(name, str | int | float) for name in names):
        raise UsageError(f"{path}: names: a list of words expected, got {names}")
    if len(set(map(str, names))) < len(names):
        raise UsageError(f"{path}: names: each class needs its own name, got {names}")
    if described.get("nc") not in (None, len(names)):
        raise UsageError(f"{path}: nc is {described['nc']}, but names has {len(names)} entries")
    return tuple(str(name) for name in names)
