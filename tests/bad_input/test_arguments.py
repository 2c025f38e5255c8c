"""Arguments that mean nothing."""

from pathlib import Path

import pytest
from in_process import Bench, config
from refusals import refused


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
