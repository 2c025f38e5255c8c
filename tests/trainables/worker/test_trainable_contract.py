"""What every trainable promises to `run_trial`, the search and the verdict; one suite for all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from trials import Seldom, killed_after, outcome_of, report_of

from spaces.strategy import Strategy
from trainables.contract.kept import read_progress
from trainables.contract.trial import TRAIN_RECALL, DataSpec, TrainSpec, TrialReport, TrialSpec
from trainables.worker.run import check_receipt

# Every family is on, so that whatever one of them forgets to seed or to restore shows.
BUSY = Strategy.from_knobs(
    {
        "retention": 0.5,
        "sampler_power": 0.6,
        "focal_gamma": 1.0,
        "alpha_power": 0.3,
        "augment_minority": 0.6,
        "augment_rest": 0.2,
    }
)
# What only a classifier has; the draws and the loss change from epoch to epoch.
BUSIER = Strategy.from_knobs(
    BUSY.knobs()
    | {
        "repeat_threshold": 0.3,
        "defer": 0.7,
        "alpha_prior": 0.5,
        "class_balance": 0.3,
        "logit_tau": 0.5,
        "label_smoothing": 0.1,
    }
)
OTHER = Strategy.from_knobs({"retention": 0.8, "augment_minority": 0.3})


@dataclass(frozen=True)
class Case:
    """One trainable and a spec that it finishes quickly.

    Attributes:
        spec: Of a few epochs.
        weights: The tensors or values of `weights`' file in a result folder, comparable one by one.
        broken: `spec` changed so that the training raises.
    """

    spec: TrialSpec
    weights: Callable[[Path], dict[str, Any]]
    broken: dict[str, Any]


def toy_state(result: Path) -> dict[str, Any]:
    return {"state": (result / "state.json").read_text()}


def classifier_weights(result: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(result / "weights.pt", weights_only=True)["state"]
    return state


def detector_weights(result: Path) -> dict[str, Any]:
    # Ultralytics stores the module itself.
    state: dict[str, Any] = torch.load(result / "weights.pt", weights_only=False)["model"].state_dict()
    return state


def trial(
    task: str, source: str, minority: tuple[str, ...], train: dict[str, Any], strategy: Strategy = BUSY
) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "task": task,
            "strategy": strategy,
            "data": DataSpec(source=source, minority=minority),
            "train": TrainSpec(**train),
            "seed": 5,
        }
    )


CASES = {
    "toy": Case(
        trial("toy", "demo:toy", ("rare",), {"model": "toy", "steps": 40, "eval_every": 10}),
        toy_state,
        {"model": "toy:raise=2"},
    ),
    "classifier": Case(
        trial(
            "classification",
            "demo:digits",
            ("1", "8", "9"),
            {"model": "small_cnn", "imgsz": 8, "batch": 16, "steps": 48, "eval_every": 12},
            BUSIER,
        ),
        classifier_weights,
        {"model": "no_such_model"},
    ),
    "detector": Case(
        trial(
            "detection",
            "demo:cytology",
            ("cluster",),
            {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 8, "steps": 12, "eval_every": 4},
        ),
        detector_weights,
        {"model": "no_such_model.yaml"},
    ),
}
PARAMS = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "detector" else [], id=name) for name in CASES
]


@pytest.fixture(params=PARAMS)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def timeless(report: TrialReport) -> dict[str, Any]:
    return report.model_dump(exclude={"seconds", "restarts"})


def different_weights(case: Case, a: Path, b: Path) -> list[str]:
    """Names of the weights in which two runs differ by a single bit."""
    ours, theirs = case.weights(a / "result"), case.weights(b / "result")
    assert ours.keys() == theirs.keys()
    return [
        name
        for name, value in ours.items()
        if not (torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name])
    ]


def test_the_same_seed_gives_the_same_run(case: Case, tmp_path: Path) -> None:
    first, again = report_of(case.spec, tmp_path / "a"), report_of(case.spec, tmp_path / "b")
    assert timeless(first) == timeless(again)
    assert not different_weights(case, tmp_path / "a", tmp_path / "b")


def test_another_seed_gives_another_run(case: Case, tmp_path: Path) -> None:
    report_of(case.spec, tmp_path / "a")
    report_of(case.spec.model_copy(update={"seed": 6}), tmp_path / "b")
    assert different_weights(case, tmp_path / "a", tmp_path / "b")


def test_the_receipt_says_what_was_asked(case: Case, tmp_path: Path) -> None:
    done = report_of(case.spec, tmp_path)
    check_receipt(case.spec, done.applied)
    assert done.steps == case.spec.train.steps
    assert done.images_seen == case.spec.train.steps * case.spec.train.batch
    assert 0 < done.unique_images <= done.images_seen
    assert 0 < done.exposure < 1
    kept = done.applied["minority_images"] + done.applied["retention"] * done.applied["majority_images"]
    assert 0 < done.applied["minority_images"] < done.applied["majority_images"]
    assert done.unique_images <= round(kept)


def test_a_failure_is_a_value(case: Case, tmp_path: Path) -> None:
    train = case.spec.train.model_copy(update=case.broken)
    outcome = outcome_of(case.spec.model_copy(update={"train": train}), tmp_path)
    assert outcome.model_dump(include={"kind", "retry"}) == {"kind": "error", "retry": False}


def test_every_epoch_is_measured_once(case: Case, tmp_path: Path) -> None:
    done = report_of(case.spec, tmp_path)
    assert [point.epoch for point in done.curve] == list(range(1, case.spec.train.epochs + 1))
    assert done.curve[-1].metrics.items() <= done.metrics.items()
    assert TRAIN_RECALL in done.metrics.keys() - done.curve[-1].metrics.keys()


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_run_resumes_as_if_it_had_never_stopped(case: Case, tmp_path: Path, epoch: int) -> None:
    whole = report_of(case.spec, tmp_path / "whole")
    checkpoint = killed_after(epoch, case.spec, tmp_path / "killed")
    resumed = report_of(case.spec, tmp_path / "resumed", resume=checkpoint)
    assert timeless(resumed) == timeless(whole)
    assert not different_weights(case, tmp_path / "resumed", tmp_path / "whole")
    assert resumed.restarts == 1


def test_a_killed_run_resumes_as_if_it_had_never_stopped_from_an_epoch_before(
    case: Case, tmp_path: Path
) -> None:
    whole = report_of(case.spec, tmp_path / "whole")
    checkpoint = killed_after(2, case.spec, tmp_path / "killed", Seldom())
    assert [point.epoch for point in read_progress(checkpoint).curve] == [1]
    resumed = report_of(case.spec, tmp_path / "resumed", resume=checkpoint)
    assert timeless(resumed) == timeless(whole)
    assert not different_weights(case, tmp_path / "resumed", tmp_path / "whole")


def test_a_run_killed_after_its_last_epoch_only_has_to_finish(case: Case, tmp_path: Path) -> None:
    whole = report_of(case.spec, tmp_path / "whole")
    checkpoint = killed_after(case.spec.train.epochs, case.spec, tmp_path / "killed")
    resumed = report_of(case.spec, tmp_path / "resumed", resume=checkpoint)
    assert timeless(resumed) == timeless(whole)


def test_a_trial_leaves_nothing_behind_for_the_next_in_its_process(case: Case, tmp_path: Path) -> None:
    other = case.spec.model_copy(update={"strategy": OTHER, "seed": 9})
    alone = report_of(case.spec, tmp_path / "a"), report_of(other, tmp_path / "b")
    outcome_of(
        case.spec.model_copy(update={"train": case.spec.train.model_copy(update=case.broken)}), tmp_path
    )
    swapped = report_of(other, tmp_path / "c"), report_of(case.spec, tmp_path / "d")
    assert [timeless(done) for done in alone] == [timeless(done) for done in reversed(swapped)]
    assert not different_weights(case, tmp_path / "a", tmp_path / "d")
    assert not different_weights(case, tmp_path / "b", tmp_path / "c")
