r"""Which slide or photograph an image was cut from: its source, the unit of splits and of the jackknife.

The first of these that says something counts:
- `manifest.csv` beside the data file: columns `image` (a path relative to it, or a bare file name) and
  `source` or `group`; in those of `rarecall tile` the column `split_unit`, which is the slide or, where
  slides were grouped, say by patient, their group. A manifest must know every image that no other rule names.
- `source_pattern` in the data.yaml: a regular expression for the whole file name without its suffix, whose
  first group is the source, e.g. `'(.+)_x\d+_y\d+'`.
- In a COCO json, the field `source` or `group` of the image.
- Else every image is its own source.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.errors import UsageError

GROUP_BY = "--group-by"  # how `tile` is told of groups
COLUMNS = ("split_unit", "source", "group")


@dataclass(frozen=True)
class SourceNames:
    """The rules of one data set.

    Attributes:
        base: Folder of the data file; images below it are named relative to it.
        manifest: Image -> source; None without a manifest.
        pattern: Of `source_pattern`; None without one.
        listing: Where the manifest is, if it is not `manifest.csv` in `base`.
        key: What the pattern is called where a person has written it.
        unit: What a source is called: a `source` image, or a `group` that a person named.
    """

    base: Path
    manifest: dict[str, str] | None
    pattern: re.Pattern[str] | None
    listing: Path | None = None
    key: str = "source_pattern"
    unit: str = "source"

    @classmethod
    def read(cls, data_file: Path, pattern: Any = None) -> "SourceNames":
        """The rules that hold for a data file.

        Args:
            data_file: A data.yaml or a COCO json.
            pattern: What its key `source_pattern` says, if anything.

        Raises:
            UsageError: The manifest or the pattern is not as it must be.
        """
        compiled = None if pattern is None else _compiled(pattern, f"{data_file}: source_pattern")
        base = data_file.resolve().parent
        return cls(base, _read_manifest(base / "manifest.csv"), compiled)

    @classmethod
    def grouped(cls, data_file: Path, group_by: str) -> "SourceNames":
        """The rules that a person names in place of those beside a data file.

        Args:
            data_file: Images below its folder are named relative to that.
            group_by: A CSV like a manifest, or a pattern like `source_pattern`.

        Raises:
            UsageError: It is neither.
        """
        base, listing = data_file.resolve().parent, Path(group_by)
        if not group_by.endswith(".csv"):
            return cls(base, None, _compiled(group_by, GROUP_BY), key=GROUP_BY, unit="group")
        manifest = _read_manifest(listing)
        if manifest is None:
            raise UsageError(f"{GROUP_BY}: no such file: {group_by}")
        return cls(base, manifest, None, listing, unit="group")

    def name(self, file: Path) -> str:
        """An image's name in the manifest and in messages; `file` is absolute."""
        return str(file).removeprefix(f"{self.base}/")

    def source(self, file: Path, stated: str = "") -> str:
        """The source of an image.

        Args:
            file: Absolute path.
            stated: What the image's own entry says.

        Raises:
            UsageError: The pattern does not match, or the manifest lacks the image.
        """
        name, manifest = self.name(file), self.manifest or {}
        listed = manifest.get(name) or manifest.get(file.name)
        if listed:
            return listed
        if self.pattern is not None:
            return self._matched(name, file.stem)
        if stated:
            return stated
        if self.manifest is not None:
            raise UsageError(
                f"{self.listing or self.base / 'manifest.csv'}: no {self.unit} for image {name}",
                "`image` is a path relative to the manifest, or a bare file name; list every image",
            )
        return name

    def _matched(self, name: str, stem: str) -> str:
        assert self.pattern is not None
        match = self.pattern.fullmatch(stem)
        if match is None or not match[1]:
            raise UsageError(
                f"{self.key}: '{self.pattern.pattern}' finds no {self.unit} in '{stem}', of image {name}",
                "it describes the whole file name without its suffix; its first parenthesis is the "
                f"{self.unit}",
            )
        return match[1]


def _compiled(pattern: Any, key: str) -> re.Pattern[str]:
    """A pattern that a person has written, under some key.

    Raises:
        UsageError: It is none, or has no group.
    """
    hint = rf"e.g. {key.rpartition(': ')[2]}: '(.+)_x\d+_y\d+'"
    if not isinstance(pattern, str):
        raise UsageError(f"{key}: a regular expression, got {pattern!r}", hint)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{key}: '{pattern}' is no regular expression: {error}", hint) from None
    if not compiled.groups:
        raise UsageError(f"{key}: '{pattern}' has no group for the source", hint)
    return compiled


def _read_manifest(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stored:
        reader = csv.DictReader(stored)
        found = reader.fieldnames or ()
        column = next((column for column in COLUMNS if column in found), None)
        if column is None or "image" not in found:
            raise UsageError(f"{path}: columns image and source (or group) are needed, got {list(found)}")
        sources: dict[str, str] = {}
        for row in reader:
            image, source = row["image"], row[column] or ""
            if sources.setdefault(image, source) != source:
                raise UsageError(f"{path}: image {image} has two sources, {sources[image]} and {source}")
    return sources
