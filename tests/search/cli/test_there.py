"""A study on a cluster's head: what can be asked of it, and what is said where the head cannot answer."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.cli.main import main
from search.launching import there

NOBODY = "http://127.0.0.1:1/mnt/runs/x"


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["status", NOBODY], 3, "no Ray takes jobs at http://127.0.0.1:1: "),
        (["status", "http://me:secret@head:1/x"], 2, "a password in it would be shown"),
        (["export", NOBODY], 2, "asked by status, pareto and report alone"),
        (["search", NOBODY, "--resume"], 2, "asked by status, pareto and report alone"),
        (["pareto", NOBODY, "--png", "pictures"], 2, "`rarecall report` brings its page"),
        (["report", NOBODY, "--out", "page.txt"], 2, "a page ends in .html"),
    ],
)
def test_what_a_head_is_not_asked(
    typed: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == code
    error = capsys.readouterr().err
    assert said in error
    assert "secret" not in error


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["status", "http://head:1/"], "the study's folder is missing: e.g. http://head:1/mnt/runs/x"),
        (["dashboard", NOBODY], "a dashboard is started where the folder is seen"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(typed)
    assert said in capsys.readouterr().err


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A head whose jobs are processes here, on whose path a `python` is what a test says."""

    def with_python(script: str) -> None:
        monkeypatch.setattr(there, "jobs_at", lambda address: SimpleNamespace(answer=answer))
        monkeypatch.setitem(spelled, "python", script)

    spelled: dict[str, str] = {}

    def answer(entrypoint: str, study: str) -> tuple[int, str]:
        python = f"python() {{ {spelled['python']}\n}}\n"
        variable, *words = shlex.split(entrypoint)
        assert re.fullmatch(r"COLUMNS=\d+", variable)
        words[2] = python + words[2]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        *lines, last = done.stdout.splitlines(keepends=True) or [""]  # Ray writes there, too
        return done.returncode, "".join([*lines, f"Running entrypoint for job: {entrypoint}\n", last])

    return with_python


def test_what_it_prints_errors_and_the_code_come_back(
    head: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    head('echo "$@"; echo "two words" >&2; return 1')
    assert main(["pareto", "http://head:1/mnt/my%20runs/x/", "--all", "--json"]) == 1
    said = capsys.readouterr()
    assert said.out == "-m rarecall pareto /mnt/my runs/x --all --json\n"
    assert said.err == "two words\n"


def test_a_page_is_written_here(
    head: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head(r'for last; do :; done; printf "a\0page" > "$last"; echo "found -> $last"')
    monkeypatch.chdir(tmp_path)
    assert main(["report", "http://head:1/mnt/runs/x"]) == 0
    assert (tmp_path / "x" / "report.html").read_bytes() == b"a\0page"
    assert main(["report", "http://head:1/mnt/runs/x", "--out", "here.html"]) == 0
    assert (tmp_path / "here.html").read_bytes() == b"a\0page"


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (
            "echo 'python: No module named rarecall' >&2; return 1",
            "the head at http://head:1 has no rarecall",
        ),
        ("kill $$", "did not carry it out"),
    ],
)
def test_a_head_that_cannot(
    python: str, said: str, head: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    head(python)
    assert main(["status", "http://head:1/mnt/runs/x"]) == 3
    assert said in capsys.readouterr().err
