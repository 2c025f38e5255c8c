"""rarecall as a wheel, for tests."""

import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT


def build_wheel(folder: Path) -> Path:
    """Build it into a folder; returns the file."""
    source = folder / "source"  # a build leaves files behind, and stale ones would get into the next wheel
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "runs", "*.egg-info"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    subprocess.run([*build, "--outdir", str(folder), str(source)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))
