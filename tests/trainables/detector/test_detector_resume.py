import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_detector import check_resumed, tiny_spec
from trials import RUN, killed_after, outcome_of, report_of

from trainables.contract.trial import TrialFailure
from trainables.detector.arguments import resolve_model

ALWAYS = {"retention": 0.8, "augment_minority": 0.5}
MIXED = {"mosaic": 0.5, "mixup": 0.3, "copy_paste": 0.5}
WEIGHTED = {"sampler_power": 0.5}
FOCAL = {"focal_gamma": 1.5, "alpha_power": 0.5}
DEFAULT = {  # of all sixteen: nothing on, all of it, and the end-to-end head with what it alone restores
    (False, False, False, "one branch"),
    (True, True, True, "one branch"),
    (False, True, True, "two branches"),
}


def name_of(mixed: bool, weighted: bool, focal: bool, head: str) -> str:
    words = {"mosaic": mixed, "weighted": weighted, "focal": focal}
    return ", ".join([word if on else f"no {word}" for word, on in words.items()] + [head])


CASES = [
    pytest.param(*case, id=name_of(*case), marks=[] if case in DEFAULT else [pytest.mark.slow])
    for case in itertools.product((False, True), (False, True), (False, True), ("one branch", "two branches"))
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Our smallest model, and the same with an end-to-end head, which trains two branches."""
    plain = resolve_model("yolo_tiny.yaml")
    described = yaml.safe_load(Path(plain).read_text())
    two = tmp_path_factory.mktemp("models") / "end_to_end.yaml"
    two.write_text(yaml.safe_dump(described | {"end2end": True}))
    return {"one branch": plain, "two branches": str(two)}


@pytest.mark.parametrize(("mixed", "weighted", "focal", "head"), CASES)
def test_a_killed_trial_goes_on_bit_for_bit(
    mixed: bool, weighted: bool, focal: bool, head: str, tiles: Path, models: dict[str, str], tmp_path: Path
) -> None:
    families = [(mixed, MIXED), (weighted, WEIGHTED), (focal, FOCAL)]
    knobs = ALWAYS | {knob: value for on, family in families if on for knob, value in family.items()}
    spec = tiny_spec(tiles, knobs, model=models[head])
    check_resumed(spec, killed_after(2, spec, tmp_path / "killed"), tmp_path)


def test_a_checkpoint_of_another_loss_is_not_gone_on_from(tiles: Path, tmp_path: Path) -> None:
    kept = killed_after(1, tiny_spec(tiles, {"alpha_power": 0.5}), tmp_path / "killed")
    outcome = outcome_of(tiny_spec(tiles, {"alpha_power": 0.4}), tmp_path / "resumed", resume=kept)
    assert isinstance(outcome, TrialFailure)
    assert "another class loss" in outcome.reason


def test_the_receipt_counts_what_was_drawn(tiles: Path, tmp_path: Path) -> None:
    report = report_of(tiny_spec(tiles, FOCAL, steps=10, eval_every=5), tmp_path)  # twice through 20 tiles
    assert (report.images_seen, report.unique_images, report.steps) == (40, 20, 10)
    counted = {name: report.applied[name] for name in ("exposure/cell", "exposure/cluster", "batch")}
    assert counted == {"exposure/cell": 1.0, "exposure/cluster": 0.25, "batch": 4.0}
    assert report.applied["largest_batch"] == 4
    loss = {"focal_gamma": report.applied["focal_gamma"], "alpha": report.applied["alpha"]}
    assert report.applied["checkpoint"] == loss


@pytest.mark.slow
@pytest.mark.parametrize("model", ["yolov10n.yaml", "yolo11n.yaml", "yolo26n.yaml"])
def test_a_shipped_model_goes_on_bit_for_bit(model: str, tiles: Path, tmp_path: Path) -> None:
    spec = tiny_spec(tiles, ALWAYS | MIXED | WEIGHTED | FOCAL, model=model)
    check_resumed(spec, killed_after(3, spec, tmp_path / "killed"), tmp_path)


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_trains_loses_nothing(tiles: Path, tmp_path: Path) -> None:
    spec = tiny_spec(tiles, ALWAYS | MIXED | WEIGHTED | FOCAL, steps=60, eval_every=15)
    killed = tmp_path / "killed"
    killed.mkdir()
    command = [sys.executable, "-c", RUN, spec.model_dump_json(), str(killed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as worker:
        assert worker.stdout is not None
        assert [worker.stdout.readline().strip() for _ in range(2)] == ["1", "2"]
        os.kill(worker.pid, signal.SIGKILL)  # somewhere in its third epoch
        assert worker.wait() == -signal.SIGKILL
        assert worker.stdout.read() == ""
    check_resumed(spec, killed / "checkpoint", tmp_path)
