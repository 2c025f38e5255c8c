"""A command that is refused as a person must be told: exit code, one short message, nothing written."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from search.cli.main import main

LONGEST = 500  # characters of a message
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def refused(
    argv: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str], says: str, code: int = 2
) -> None:
    """Run a command in vain.

    Args:
        argv: Its arguments.
        folder: Where nothing may change.
        capsys: What is printed.
        says: Words of the message; upper and lower case are the same.
        code: The exit code.
    """
    before = tree(folder)
    capsys.readouterr()
    try:
        ended: int | str | None = main(argv)
    except SystemExit as left:  # argparse's way
        ended = left.code
    said = capsys.readouterr()
    message = said.err.rpartition("usage: ")[2].partition("\n")[2] if "usage: " in said.err else said.err
    assert ended == code, said.err
    assert says.lower() in message.lower(), f"'{says}' is not in: {message}"
    assert len(message) < LONGEST, f"{len(message)} characters"
    assert "Traceback" not in said.err
    assert not CONTROL.search(message), "it would steer the terminal"
    assert said.out == "", said.out
    assert tree(folder) == before, "something was written"


def tree(folder: Path) -> dict[str, int | None]:
    """Every file's size and every folder, by its path."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink() and path.name != ".lock"  # whoever opens a study to write leaves it
    }
