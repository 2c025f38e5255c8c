"""What nobody foresaw ends with code 3, a line and a traceback in a file; a reader leaves in silence."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from search.cli import search as commands
from search.cli.main import main
from search.cli.unexpected import without_passwords

RARECALL = Path(sys.executable).with_name("rarecall")
ADDRESS = "postgresql://ann:se@cret@db/x?password=secret"


def deep(depth: int = 0) -> int:
    return deep(depth + 1) + 1


def out_of_memory() -> NoReturn:
    raise MemoryError


def odd() -> NoReturn:
    raise ValueError(f"\x1b[2J no such\nhost: {ADDRESS} " + "x" * 1000)


@pytest.mark.parametrize(
    ("fails", "kind"),
    [
        pytest.param(odd, "ValueError", id="any exception"),
        pytest.param(out_of_memory, "MemoryError", id="no memory"),
        pytest.param(deep, "RecursionError", id="too deep"),
    ],
)
def test_an_exception_that_nobody_foresaw_exits_3_with_its_traceback_in_the_study(
    fails: object,
    kind: str,
    searched_study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert callable(fails)
    monkeypatch.setattr(commands, "study_status", lambda *given: fails())
    monkeypatch.setenv("A_PASSWORD", "hunter2")
    before = {*searched_study.iterdir()}
    assert main(["status", str(searched_study)]) == 3
    said = capsys.readouterr().err
    (written,) = {*searched_study.iterdir()} - before
    text = written.read_text()
    written.unlink()
    lines = said.splitlines()
    assert lines[0].startswith(f"rarecall: unexpected {kind}")
    assert lines[0].endswith(str(written))
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    assert len(said) < 700
    assert "\x1b" not in said
    assert text.startswith("Traceback")
    assert fails.__name__ in text  # where it came from
    for told in (said, text):
        assert "cret" not in told
        assert "hunter2" not in told


def test_without_a_study_that_can_be_written_the_traceback_goes_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands.StudyFolder, "open", lambda self: odd())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["status", str(tmp_path / "nothing")]) == 3
    (written,) = tmp_path.glob("error-*.txt")
    assert str(written) in capsys.readouterr().err


def test_a_library_that_cannot_be_loaded_at_the_start_is_named_with_what_to_install(
    tmp_path: Path,
) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    done = subprocess.run(
        [RARECALL, "strategies"],
        env=os.environ
        | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "ImportError: libGL.so.1" in done.stderr
    assert "hint: OpenCV lacks a system library: apt-get install libgl1" in done.stderr
    assert "Traceback" not in done.stderr
    assert len([*tmp_path.glob("error-*.txt")]) == 1


@pytest.mark.parametrize("more", [["--all"], ["--json"], ["--csv"]])
def test_a_reader_that_leaves_ends_the_command_in_silence(searched_study: Path, more: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        done = subprocess.run(
            [RARECALL, "pareto", searched_study, *more],
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_pipe_that_is_not_the_readers_is_an_error(
    searched_study: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def breaks(*given: object) -> NoReturn:
        raise BrokenPipeError("a worker's")

    monkeypatch.setattr(commands, "study_status", breaks)
    assert main(["status", str(searched_study)]) == 3
    said = capfd.readouterr().err
    found = re.search(r"traceback is in (.*)", said)
    assert found is not None
    Path(found.group(1)).unlink()


def test_passwords_of_addresses_are_left_out() -> None:
    assert without_passwords(ADDRESS) == "postgresql://***@db/x?password=***"
    assert without_passwords("see https://x.org/y") == "see https://x.org/y"
