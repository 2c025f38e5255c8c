"""Does it work with the newest of everything? Installs all unpinned and runs the traps and the contracts.

    python benchmarks/newest.py

What `pyproject.toml` pins is pinned because its insides are relied on: this says when a pin may move. Takes a
fresh environment of some 7 GB, and a quarter of an hour.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ("tests/stack", "tests/trainables/worker/test_trainable_contract.py", "tests/trainables/detector")


def main() -> int:
    """Print the versions that differ from the lock, and what fails; returns pytest's exit code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = [re.split(r"[<>=!~]", line)[0] for line in wanted]
    locked = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--upgrade", *names], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-e", ROOT], check=True)
        listed = [python, "-m", "pip", "list", "--format", "freeze"]
        shown = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
        for line in shown.split():
            name, _, version = line.partition("==")
            if locked.get(name, version) != version:
                print(f"{name}: {locked[name]} -> {version}", flush=True)
        done = subprocess.run([python, "-m", "pytest", "-q", "-m", "", *TESTS], cwd=ROOT, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
