"""A bundle's weights in other formats, written by the bundle's own `convert.py` in a process of its own.

So that exporting alone loads no torch, and what a person can do later is what was done here.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from spaces.errors import RunError, UsageError

FORMATS = ("onnx", "torchscript")
CONVERT = "convert.py"
NEEDED = ("onnx", "onnxruntime")


def check_formats(formats: Collection[str]) -> None:
    """Refuse what this installation cannot write, before anything is written.

    Raises:
        UsageError: A package is lacking.
    """
    lacking = [name for name in NEEDED if "onnx" in formats and find_spec(name) is None]
    if lacking:
        raise UsageError(
            f"--onnx: {' and '.join(lacking)} not installed", "pip install -c requirements.lock '.[onnx]'"
        )


def convert(bundle: Path, formats: Collection[str]) -> None:
    """Write the weights in `formats` beside `weights.pt`, and check that they put out the same.

    Args:
        bundle: A folder with weights, `predict.py` and `convert.py`.
        formats: Of `FORMATS`.

    Raises:
        UsageError: Nothing says how these weights are used.
        RunError: They cannot be written so; says why.
    """
    if not (bundle / CONVERT).is_file():  # the toy's, or a detector's of 0.1.0
        raise UsageError(f"--{next(iter(formats))}: nothing says how these weights are used")
    options = [f"--{name}" for name in FORMATS if name in formats]
    with tempfile.TemporaryDirectory() as settings:  # Ultralytics' own, which belong to the person
        quiet = {"YOLO_CONFIG_DIR": settings, "YOLO_VERBOSE": "0"}
        done = subprocess.run(
            [sys.executable, "-B", CONVERT, *options],  # no bytecode beside what is shipped
            cwd=bundle,
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RunError(f"{', '.join(options)}: the network cannot be written so: {said[-1]}")
