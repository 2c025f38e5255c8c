"""Files that others could send: models that run code, for tests to see that they do not, and bombs."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml

TWO_LAYERS = {"backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
PIECE = 2**20


class Touches:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def with_code(model: torch.nn.Module, path: Path, marker: Path) -> Path:
    """A checkpoint like Ultralytics' own, beside whose model something makes `marker`."""
    torch.save({"model": model, "ema": None, "train_args": {}, "extra": Touches(marker)}, path)
    return path


def described(path: Path, **more: Any) -> Path:
    """A model yaml of two layers, and whatever else it is to say."""
    path.write_text(yaml.safe_dump({"nc": 2, **TWO_LAYERS, **more}))
    return path


def code(marker: Path) -> str:
    """An expression that makes `marker`."""
    return f"__import__('os').system(\"touch '{marker}'\")"


def bomb(path: Path, entry: str, mebibytes: int, *, says: int | None = None) -> Path:
    """A small zip with an entry of zeros; with `says` its index says so many bytes instead."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(entry, "w", force_zip64=True) as stored,
    ):
        for _ in range(mebibytes):
            stored.write(bytes(PIECE))
    if says is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.getinfo(entry).file_size = says
            archive._didModify = True  # type: ignore[attr-defined]  # it writes its index anew
    return path
