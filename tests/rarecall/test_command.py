"""The command starts with our packages, or says whose it got."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rarecall.command import WINGS, foreign_package

COMMAND = Path(sys.executable).with_name("rarecall")


def test_the_packages_here_are_ours() -> None:
    assert foreign_package() is None


@pytest.mark.parametrize("name", WINGS)
def test_another_projects_package_is_named_in_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('loaded')\n")
    done = subprocess.run(
        [COMMAND, "strategies"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    where = tmp_path / name
    said = (
        f"rarecall: '{name}' is another project's here ({where}): give rarecall an environment of its own\n"
    )
    assert done.stderr == said
    assert done.stdout == ""
