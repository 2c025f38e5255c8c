"""Arguments that mean nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import Bench, config
from refusals import refused

from search.cli.main import main


@pytest.fixture
def study(tmp_path: Path) -> Path:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}))
    bench.run()
    return bench.folder.path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param([], "required", id="no command"),
        pytest.param(["serach"], "invalid choice", id="no such command"),
        pytest.param(["search"], "required", id="no study"),
        pytest.param(["search", "STUDY", "--trials", "3"], "unrecognized", id="no such option"),
        pytest.param(["export", "STUDY", "--trial", "two"], "invalid int", id="a word for a number"),
        pytest.param(["export", "STUDY", "--trial", "-1"], "no such trial", id="a negative trial"),
        pytest.param(["export", "STUDY", "--trial", "9" * 5000], "", id="a trial of 5,000 digits"),
        pytest.param(["export", "STUDY", "--out", "STUDY/study.yaml"], "cannot write", id="out is a file"),
        pytest.param(["pareto", "STUDY", "--json", "--csv"], "one of them", id="two formats"),
        pytest.param(["pareto", "STUDY/study.yaml"], "no study in", id="a file for a folder"),
        pytest.param(["status", "a\0b"], "no path", id="NUL in a path"),
        pytest.param(["status", "x" * 5000], "", id="a path of 5,000 letters"),
        pytest.param(["confirm", "STUDY", "--seeds", "0"], "seeds", id="no seeds"),
        pytest.param(["confirm", "STUDY", "--trial", "77"], "77", id="confirm no such trial"),
        pytest.param(
            ["confirm", "STUDY", "--strategy", "best"], "no such strategy", id="confirm no such strategy"
        ),
        pytest.param(
            ["search", "STUDY", "--resume", "--here", "--address", "auto"], "one of them", id="here and there"
        ),
        pytest.param(
            ["search", "STUDY/study.yaml", "--runs", "STUDY/study.yaml"], "write", id="runs is a file"
        ),
    ],
)
def test_an_argument(
    arguments: list[str], says: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [argument.replace("STUDY", str(study)) for argument in arguments]
    refused(typed, tmp_path, capsys, says)


@pytest.mark.parametrize("command", ["status", "dashboard"])
@pytest.mark.parametrize(
    ("address", "says"),
    [
        pytest.param("s4://bucket/x", "no kind of storage", id="no such storage"),
        pytest.param("s3:/bucket", "not the address of a storage", id="a slash too few"),
        pytest.param("s3://bucket/x?secret_key=y", "no password or key", id="a key"),
    ],
)
def test_an_address_of_a_storage(
    command: str, address: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused([command, address], tmp_path, capsys, says)


@pytest.mark.parametrize("cache", ["file", "file/in/it", "."])
def test_a_cache_that_cannot_hold_the_mirror_of_a_storage(
    cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("file", "studies"):
        (tmp_path / name).touch()
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / cache))
    for typed in (["status", "s3://b/runs/x"], ["search", "one.yaml", "--runs", "s3://b/runs"]):
        refused(typed, tmp_path, capsys, "cannot be written", code=3)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        pytest.param("127.0.0.1:1", "no Ray cluster at", id="nobody answers"),
        pytest.param("nowhere.invalid:6379", "no Ray cluster at", id="no such host"),
        pytest.param("127.0.0.1:99999999", "no Ray cluster at", id="no such port"),
    ],
)
def test_an_address(
    address: str, says: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.yaml").write_text((study / "study.yaml").read_text().replace("name: toy", "name: other"))
    refused(
        ["search", str(tmp_path / "one.yaml"), "--runs", str(tmp_path / "runs"), "--address", address],
        tmp_path,
        capsys,
        says,
        code=3,
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param("max_drop: 0.03", "max_drop: 0.001", "in: guards", id="another guard"),
        pytest.param("seeds: 3", "seeds: 2", "in: baseline", id="another baseline"),
        pytest.param("  seed: 0", "  seed: 5", "in: search", id="another seed"),
        pytest.param("steps: 20", "steps: 40", "in: train", id="another training"),
    ],
)
def test_a_study_whose_request_was_changed_by_hand(
    old: str, new: str, says: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study / "study.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    for command in (["status"], ["pareto"], ["export"], ["search", "--resume", "--here"]):
        refused([command[0], str(study), *command[1:]], study, capsys, says)


def test_what_may_change_may_be_changed_by_hand_too(study: Path) -> None:
    file = study / "study.yaml"
    file.write_text(file.read_text().replace("cpu: 1.0", "cpu: 2.0").replace("trials: 2", "trials: 3"))
    assert main(["status", str(study)]) == 0


def test_an_output_that_knows_no_signs_of_ours(study: Path) -> None:
    command = [sys.executable, "-c", "import sys; from rarecall.command import main; sys.exit(main())"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, "pareto", str(study)], env=ascii_only, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"?" in done.stdout
