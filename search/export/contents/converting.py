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

FORMATS = ("onnx", "torchscript", "mlflow")
CONVERT, MLFLOW = "convert.py", "mlflow_model.py"
# Format -> module that it needs, and what installs that.
NEEDED = {
    "onnx": (("onnx", "onnxruntime"), "pip install -c requirements.lock '.[onnx]'"),
    "mlflow": (("mlflow", "pandas"), "pip install -c requirements.lock '.[mlflow]'"),
}


def check_formats(formats: Collection[str]) -> None:
    """Refuse what this installation cannot write, before anything is written.

    Raises:
        UsageError: A package is lacking.
    """
    for name in (name for name in FORMATS if name in formats and name in NEEDED):
        modules, hint = NEEDED[name]
        lacking = [module for module in modules if find_spec(module) is None]
        if lacking:
            raise UsageError(f"--{name}: {' and '.join(lacking)} not installed", hint)


def convert(bundle: Path, formats: Collection[str]) -> None:
    """Write the weights in `formats` beside `weights.pt`, and check that they put out the same.

    As `mlflow` a folder, of the kind of weights that `predict.py` would use.

    Args:
        bundle: A folder with weights, `predict.py` and the scripts.
        formats: Of `FORMATS`.

    Raises:
        UsageError: Nothing says how these weights are used.
        RunError: They cannot be written so; says why.
    """
    if not (bundle / CONVERT).is_file():  # the toy's, or a detector's of 0.1.0
        raise UsageError(f"--{next(iter(formats))}: nothing says how these weights are used")
    options = [f"--{name}" for name in FORMATS if name in formats and name != "mlflow"]
    if options:
        _run(bundle, CONVERT, *options, what=f"{', '.join(options)}: the network")
    if "mlflow" in formats:
        _run(bundle, MLFLOW, what="--mlflow: the model")


def _run(bundle: Path, script: str, *options: str, what: str) -> None:
    """Run a script of the bundle.

    Raises:
        RunError: It fails; says why.
    """
    with tempfile.TemporaryDirectory() as settings:  # Ultralytics' own, which belong to the person
        quiet = {"YOLO_CONFIG_DIR": settings, "YOLO_VERBOSE": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run(
            [sys.executable, "-B", script, *options],  # no bytecode beside what is shipped
            cwd=bundle,
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RunError(f"{what} cannot be written so: {said[-1]}")
