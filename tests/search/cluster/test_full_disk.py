"""A disk that fills up during a real search: it ends with the reason, and goes on when there is room."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from in_process import DATA, config
from small_disk import Disk
from trials import report_of

from search.record.folder import StudyFolder

ENDS_WITHIN_S, RUNS_WITHIN_S = 90, 200


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", "3m")
    try:
        yield made
    finally:
        made.close()


def wait_for_epochs_after(folder: StudyFolder, process: "subprocess.Popen[str]", *, finished: int) -> None:
    """Until so many runs have finished and another one has a checkpoint to go on from."""
    deadline = time.monotonic() + RUNS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        runs = [path for path in folder.files.root.glob("*") if path.is_dir()]
        done = [path for path in runs if folder.files.report(path.name) is not None]
        under_way = [path for path in runs if path not in done and [*path.glob("checkpoint_*/progress.json")]]
        if len(done) >= finished and under_way:
            return
        time.sleep(0.05)
    raise TimeoutError("the search has not come so far")


@pytest.mark.slow
@pytest.mark.parametrize("where", [[], ["--here"]], ids=["on Ray", "in this process"])
def test_a_search_ends_when_its_disk_is_full_and_goes_on_when_there_is_room(
    disk: Disk, tmp_path: Path, where: list[str]
) -> None:
    request = config(
        name="full",
        train={"model": "toy:sleep=0.3", "steps": 4, "eval_every": 1},
        space={"sampler_power": [0.0, 1.0]},
        guards=[{"metric": "map50_95", "max_drop": 0.5}],
        baseline={"strategy": "plain", "seeds": 1},
        search={"trials": 8, "sampler": "random"},
    )
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(request.model_dump(mode="json")))
    rarecall = str(Path(sys.executable).with_name("rarecall"))
    command = [rarecall, "search", str(tmp_path / "study.yaml"), "--runs", str(disk.root), *where]
    pipe = subprocess.PIPE
    folder = StudyFolder(disk.root / "full")
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            wait_for_epochs_after(folder, process, finished=3)
            disk.fill()
            _, said = process.communicate(timeout=ENDS_WITHIN_S)
        finally:
            process.kill()
    assert process.returncode == 3, said
    *_, reason, hint = said.splitlines()
    assert reason.startswith(("rarecall: no space left on ", "rarecall: the study's record cannot be"))
    assert hint.startswith("hint: ")
    assert "Traceback" not in said

    disk.enlarge()
    done = subprocess.run(
        [*command, "--resume"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUNS_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    study = folder.open()
    trials = study.trials()
    assert [trial.state for trial in trials] == ["complete"] * 8
    for trial in [*trials, *study.baseline_trials()]:
        assert trial.report is not None
        alone = report_of(
            request.spec(trial.strategy, DATA, seed=trial.seed), tmp_path / f"alone-{trial.report.key}"
        )
        assert (trial.report.metrics, folder.files.curve(trial.report)) == (alone.metrics, alone.curve)
        assert folder.files.report(trial.report.key) is not None
