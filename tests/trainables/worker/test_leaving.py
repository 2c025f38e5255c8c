"""What a run leaves in the process that it ran in, however it ended: no model, no optimizer, no memory."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import draw_tiles, tiny_spec
from torch import nn

from spaces.strategy import Strategy
from trainables.contract.trial import (
    DataSpec,
    EpochMetrics,
    TrainSpec,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)
from trainables.worker.leaving import leaving_nothing
from trainables.worker.run import run_trial

TASKS = ("classification", "detection")
DIVERGES = {"lr": 1e30}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_tiles(tmp_path_factory.mktemp("tiles"))


def spec_of(task: str, tiles: Path, seed: int, **train: Any) -> TrialSpec:
    """Two epochs of two steps."""
    train = {"steps": 4, "eval_every": 2} | train
    if task == "detection":
        return tiny_spec(tiles, {}, seed=seed, **train)
    return TrialSpec(
        task="classification",
        strategy=Strategy(),
        data=DataSpec(source="demo:digits", minority=("1",)),
        train=TrainSpec(model="small_cnn", imgsz=28, **train),
        seed=seed,
    )


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


class Watched:
    """Models' parameters and optimizers that are alive after an epoch and were not before the run."""

    def __init__(self) -> None:
        self.before = {id(one) for one in trained_objects()}
        self.found: list[weakref.ref[Any]] = []

    def look(self, measured: EpochMetrics) -> None:
        self.found += [weakref.ref(one) for one in trained_objects() if id(one) not in self.before]

    def alive(self) -> list[Any]:
        return [one for ref in self.found if (one := ref()) is not None]


def trained_objects() -> list[nn.Parameter | torch.optim.Optimizer]:
    # By type: what asks some objects for their class gets a warning.
    return [one for one in gc.get_objects() if issubclass(type(one), nn.Parameter | torch.optim.Optimizer)]


def stop(measured: EpochMetrics) -> None:
    """As Tune ends a run, in the midst of its report."""
    raise SystemExit


def full_disk(measured: EpochMetrics) -> None:
    raise OSError("no space")


@pytest.mark.parametrize("task", TASKS)
def test_an_idle_worker_holds_nothing_of_its_runs_whether_they_ended_well_or_not(
    task: str, tiles: Path, tmp_path: Path
) -> None:
    for number, (train, kind) in enumerate([({}, TrialReport), (DIVERGES, TrialFailure), ({}, TrialReport)]):
        (tmp_path / str(number)).mkdir()
        watched = Watched()
        with leaving_nothing():
            spec = spec_of(task, tiles, number, **train)
            outcome = run_trial(spec, TrialFolder(tmp_path / str(number)), watched.look)
        assert isinstance(outcome, kind), outcome
        assert not watched.alive()
        if kind is TrialReport:
            assert len(watched.found) > 4, "nothing was looked at"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ends", [stop, full_disk])
def test_nor_of_one_that_its_caller_ended(
    task: str, ends: Callable[[EpochMetrics], None], tiles: Path, tmp_path: Path
) -> None:
    watched = Watched()

    def on_epoch(measured: EpochMetrics) -> None:
        watched.look(measured)
        ends(measured)

    with pytest.raises((SystemExit, OSError)) as raised, leaving_nothing():
        run_trial(spec_of(task, tiles, 0), TrialFolder(tmp_path), on_epoch)
    assert raised.value.__traceback__ is not None  # who handles it still has it, and with it all frames
    assert len(watched.found) > 4
    assert not watched.alive()


def test_a_gpus_memory_is_given_back_when_the_models_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: happened.append(there()))
    with leaving_nothing():
        model = nn.Linear(2, 2)
        model.itself = [model]  # a cycle
        there = weakref.ref(model)
        del model
    assert happened == [None]
