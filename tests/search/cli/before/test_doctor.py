"""`rarecall doctor` of this machine, with studies in a folder and on a storage."""

import json
from pathlib import Path

import pytest

from search.cli.main import main
from search.cluster.health.checks import MUCH_SKEW_S, check_storage_clock


def checks(runs: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Name and verdict of those of where studies are kept, and of clocks."""
    main(["doctor", "--runs", runs, "--json"])
    found = json.loads(capsys.readouterr().out)
    return [(one["name"], one["verdict"]) for one in found if one["name"] in ("storage", "clock", "nodes")]


@pytest.mark.parametrize("scheme", ["", "file"])
def test_where_studies_are_kept_is_written_and_left_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    clock = [("clock", "ok")] if scheme else []
    runs = tmp_path.as_uri() if scheme else str(tmp_path)
    assert checks(runs, capsys) == [*clock, ("nodes", "ok"), ("storage", "ok")]
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_cannot_be_used_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    found = checks((tmp_path / "file" / "runs").as_uri(), capsys)
    assert found.count(("storage", "problem")) == 2


@pytest.mark.parametrize(
    ("skew_s", "verdict"), [(1.9, "ok"), (-2.1, "warning"), (MUCH_SKEW_S + 1, "problem")]
)
def test_a_storage_of_another_time_is_said(skew_s: float, verdict: str) -> None:
    assert check_storage_clock("s3://bucket", skew_s).verdict == verdict
