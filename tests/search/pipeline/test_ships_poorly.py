"""What falls far behind once it is exported is said again: before it is paid for, and when it is taken."""

import io
import json
from pathlib import Path

import pytest
from in_process import Bench, Here, config
from rich.console import Console
from toy_experiments import SMALL

from search.cli.main import main
from search.judging.confirmation import Asked
from search.judging.diagnostics import DEPLOYED
from search.pipeline.confirming import confirm
from spaces.errors import Interrupted
from trainables.contract.trial import Outcome, TrialReport, TrialSpec

SAID = "deployed differs: the exported weights, at the threshold that ships, find 0.000 of the minority"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A searched study whose models find nothing as they ship."""
    made = Bench(tmp_path, config(search={"trials": 3, "sampler": "tpe"}, confirm=SMALL))

    def train(spec: TrialSpec) -> Outcome:
        report = made.train(spec)
        assert isinstance(report, TrialReport)
        return report.model_copy(update={"metrics": report.metrics | {DEPLOYED: 0.0}})

    made.run(train)
    return made


def test_an_export_says_it(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(bench.folder.path), "--trial", "1", "--out"]
    assert main([*command, str(tmp_path / "a")]) == 0
    assert f"note: {SAID}" in " ".join(capsys.readouterr().out.split())
    assert main([*command, str(tmp_path / "b"), "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith(SAID)


def test_a_confirmation_says_it_before_it_trains(bench: Bench) -> None:
    console, here = Console(file=io.StringIO()), Here(at_most=0)
    asked = Asked(trials=(1,), one_look=True)
    with pytest.raises(Interrupted):
        confirm(bench.folder, asked, cluster=here, resume=False, fresh=False, console=console)
    assert here.ran == []
    assert f"note on trial 1: {SAID}" in console.file.getvalue()  # type: ignore[attr-defined]
