"""Models that run code, as the commands, the Python face and Ray's workers meet them."""

import trainables.detector.settled  # before Ultralytics is imported

# isort: split
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from strangers import Touches, code, described, with_code
from tiny_detector import tiny_spec
from torchvision import models
from ultralytics.nn.tasks import DetectionModel

import rarecall
from search.cli.main import main
from search.cluster.launch import run_connected
from search.record.files import RunFiles
from search.record.folder import StudyFolder
from search.request.computing.resources import Resources
from search.work.protocol import Answer, Job
from trainables.contract.trial import EpochMetrics, Outcome, TrialFailure, TrialReport, TrialSpec
from trainables.contract.trust import trusting_weights

TINY = Path(trainables.detector.settled.__file__).parent / "yolo_tiny.yaml"
TRAIN = {"imgsz": 64, "batch": 4, "steps": 2, "eval_every": 2}


def pickled(folder: Path, marker: Path) -> Path:
    model = DetectionModel(str(TINY), nc=2, verbose=False)
    model.task, model.names = "detect", {0: "cell", 1: "cluster"}
    return with_code(model, folder / "m.pt", marker)


def in_a_yaml(folder: Path, marker: Path) -> Path:
    return described(folder / "m.yaml", activation=code(marker))


def study(folder: Path, model: Path, data: Path, /, **more: object) -> str:
    """A study file of two trainings."""
    request = {
        "name": "stranger",
        "task": "detection",
        "data": str(data),
        "minority": ["cluster"],
        "train": TRAIN | {"model": str(model)},
        "baseline": {"seeds": 1},
        "search": {"trials": 1, "sampler": "random"},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(request | more))
    return str(folder / "study.yaml")


@pytest.mark.parametrize("write", [pickled, in_a_yaml])
@pytest.mark.parametrize("command", [["check"], ["search", "--here"], ["search"], ["compare"]])
def test_a_command_that_meets_code_in_a_model_runs_nothing(
    command: list[str],
    write: Callable[[Path, Path], Path],
    tiles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    request = study(tmp_path, write(tmp_path, tmp_path / "ran"), tiles)
    runs = [] if command == ["check"] else ["--runs", str(tmp_path / "runs")]
    assert main([*command, request, *runs]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rarecall: study.yaml: train.model: ")
    assert len(said) < 700
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs").exists()


def test_trust_is_given_with_each_command_and_stored_nowhere(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = study(tmp_path, pickled(tmp_path, tmp_path / "ran"), tiles)
    runs = tmp_path / "runs"
    assert main(["check", request, "--trust-weights"]) == 0
    assert (tmp_path / "ran").exists()
    assert main(["search", request, "--runs", str(runs), "--here", "--trust-weights"]) in (0, 1)
    folder = StudyFolder(runs / "stranger")
    (trial,) = folder.open().trials()
    assert trial.report is not None
    assert trial.report.applied["tensors_loaded"] == trial.report.applied["tensors"]
    assert "trust_weights" not in folder.study_yaml.read_text()
    (tmp_path / "ran").unlink()
    resume = ["search", str(folder.path), "--runs", str(runs), "--here", "--resume"]
    capsys.readouterr()
    assert main(resume) == 2
    assert "with --resume too" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert main([*resume, "--trust-weights"]) in (0, 1)


def test_python_asks_for_trust_at_each_call(tiles: Path, tmp_path: Path) -> None:
    request = study(tmp_path, pickled(tmp_path, tmp_path / "ran"), tiles)
    for name in ("one", "two"):
        with pytest.raises(rarecall.UsageError, match="may run code"):
            rarecall.search(request, runs=tmp_path / "runs", here=True)
        assert not (tmp_path / "ran").exists()
        rarecall.search(request, runs=tmp_path / name, here=True, trust_weights=True)
        (tmp_path / "ran").unlink()


def test_a_classifier_s_weights_run_nothing_in_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {"state_dict": models.resnet18(num_classes=10).state_dict(), "x": Touches(tmp_path / "ran")}
    torch.save(stored, tmp_path / "w.pt")
    train = {"model": "resnet18", "weights": "w.pt", "imgsz": 32, "batch": 8, "steps": 1, "eval_every": 1}
    digits = {"task": "classification", "data": "demo:digits", "minority": ["8"], "train": train}
    request = study(tmp_path, Path("w.pt"), Path("none"), **digits)
    for command in (["check", request], ["search", request, "--here", "--runs", str(tmp_path / "runs")]):
        assert main(command) == 2
        assert "train.weights: " in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert main(["check", request, "--trust-weights"]) == 0
    assert (tmp_path / "ran").exists()


class Runs:
    """A `protocol.Work` of some runs; what became of them, by key."""

    def __init__(self, *specs: TrialSpec) -> None:
        self.waiting, self.outcomes = list(specs), dict[str, Outcome]()

    def take(self) -> Job | None:
        return Job(self.waiting.pop(0)) if self.waiting else None

    def exhausted(self) -> bool:
        return not self.waiting

    def over(self) -> bool:
        return False

    def started(self, key: str, resources: Resources) -> None:
        """Nothing to note."""

    def lost(self, key: str) -> None:
        """Nothing to note."""

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        return "go on"

    def hung(self) -> set[str]:
        return set()

    def finish(self, key: str, outcome: Outcome) -> None:
        self.outcomes[key] = outcome

    def stopped(self, key: str) -> None:
        """Nothing is."""


@pytest.mark.slow
def test_rays_workers_run_nothing_either_unless_the_driver_trusts_it(
    local_ray: None, tiles: Path, tmp_path: Path
) -> None:
    """As if the files had been exchanged after the driver had checked them."""
    marker = tmp_path / "ran"
    specs = [
        tiny_spec(tiles, {}, model=str(write(tmp_path, marker)), steps=2, eval_every=2)
        for write in (pickled, in_a_yaml)
    ]
    files = RunFiles(tmp_path / "study" / "trials")
    work = Runs(*specs)
    run_connected(work, files, Resources(cpu=1))
    assert not marker.exists()
    for outcome in work.outcomes.values():
        assert isinstance(outcome, TrialFailure)
        assert "UsageError" in outcome.reason
    assert len(work.outcomes) == 2
    trusted = Runs(*specs)
    with trusting_weights(True):
        run_connected(trusted, files, Resources(cpu=1))
    assert isinstance(trusted.outcomes[specs[0].key], TrialReport)
    assert marker.exists()
    assert isinstance(trusted.outcomes[specs[1].key], TrialFailure)  # a yaml's code is never run
