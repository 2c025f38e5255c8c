"""A bundle as whoever receives it has it: its scripts, in a Python that cannot import anything of ours."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search.export.contents.standalone import write_detector

# Site-packages without its `.pth` files, by which an editable installation of ours would be found.
ALONE = """
import runpy, sys
from importlib.util import find_spec
site, extra, *lacking, script = sys.argv[1].split(",")
sys.path += [site, extra]
assert not [name for name in ("rarecall", "search", "spaces", "trainables") if find_spec(name)]
sys.modules.update(dict.fromkeys(lacking))
sys.argv = [script, *sys.argv[2:]]
runpy.run_path(script, run_name="__main__")
"""


def alone(
    script: Path, *arguments: str | Path, cwd: Path, lacking: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a bundle's script without our packages, and without those that are `lacking`."""
    onnx = find_spec("onnx")  # the extra may be elsewhere, where PYTHONPATH says
    extra = "" if onnx is None or onnx.origin is None else str(Path(onnx.origin).parents[1])
    said = ",".join([sysconfig.get_path("purelib"), extra, *lacking, str(script)])
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, said, *map(str, arguments)],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "YOLO"))}
        | {"OMP_NUM_THREADS": "1"},  # tests share their cores
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def found_by(
    bundle: Path, images: Path, out: Path, *options: str, lacking: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """What a detector's script finds, as in its `predictions.json`."""
    script = bundle / "predict.py"
    done = alone(script, images, "--out", out, *options, cwd=out.parent, lacking=lacking)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads((out / "predictions.json").read_text())
    return found


def bundle_of(result: Path, bundle: Path) -> Path:
    """What a detector's run has left, with what uses it."""
    shutil.copytree(result, bundle)
    write_detector(bundle)
    return bundle
