"""What a detector does where memory is short: nothing in silence, and parts of a batch where asked."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import EVERYTHING, check_resumed, set_up, tiny_spec
from trials import killed_after, outcome_of, report_of

from trainables.contract.trial import TrialFailure
from trainables.detector.criterion import ImbalanceLoss
from trainables.detector.strategy_run import StrategyRun


def failing_at(batch: int, error: Exception, seen: list[int]) -> Callable[..., Any]:
    """A detection loss that raises at the n-th batch, from 0; `seen` gets the size of each."""
    plain = ImbalanceLoss.loss

    def loss(criterion: ImbalanceLoss, predictions: dict[str, Any], images: dict[str, Any]) -> Any:
        seen.append(len(images["img"]))
        if len(seen) == batch + 1:
            raise error
        return plain(criterion, predictions, images)

    return loss


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("batch", [0, 1, 3], ids=["first", "within the first epoch", "in the second epoch"])
def test_out_of_memory_is_said_and_no_batch_is_ever_halved(
    batch: int, error: Exception, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(ImbalanceLoss, "loss", failing_at(batch, error, seen))
    outcome = outcome_of(tiny_spec(tiles, {}), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.retry) == ("memory", False)
    assert f"batch 4, imgsz 64, on a CPU: out of memory ({error}); less is needed with" in outcome.reason
    assert seen == [4] * (batch + 1)


def test_what_else_goes_wrong_is_no_lack_of_memory(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImbalanceLoss, "loss", failing_at(0, RuntimeError("shapes do not fit"), []))
    outcome = outcome_of(tiny_spec(tiles, {}), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "error"


def test_a_batch_in_parts_makes_the_same_steps_from_the_same_draws(tiles: Path, tmp_path: Path) -> None:
    whole = report_of(tiny_spec(tiles, EVERYTHING), tmp_path / "whole")
    parts = report_of(tiny_spec(tiles, EVERYTHING, accumulate=2), tmp_path / "parts")
    assert parts.steps == whole.steps == 8
    same = ("images_seen", "unique_images", "exposure")
    assert [getattr(parts, name) for name in same] == [getattr(whole, name) for name in same]
    counts = ("batch", "mixed_steps", "minority_draws", "minority_samples", "objects_pasted", "lr")
    assert [parts.applied[name] for name in counts] == [whole.applied[name] for name in counts]
    assert [report.applied["accumulate"] for report in (whole, parts)] == [1, 2]
    assert [report.applied["largest_batch"] for report in (whole, parts)] == [4, 2]


def test_parts_are_as_many_in_the_warm_up_as_after_it_and_weights_decay_alike(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decays, steps = [], []
    plain = StrategyRun.optimizer_step

    def noted(run: StrategyRun) -> None:
        steps.append(run.parts)
        decays.append(max(group["weight_decay"] for group in run.optimizer.param_groups))
        plain(run)

    monkeypatch.setattr(StrategyRun, "optimizer_step", noted)
    report_of(tiny_spec(tiles, {}, accumulate=4), tmp_path)
    assert steps == [4 * step for step in range(1, 9)]
    assert decays == pytest.approx([0.0005] * 8)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_killed_run_in_parts_goes_on_bit_for_bit(accumulate: int, tiles: Path, tmp_path: Path) -> None:
    spec = tiny_spec(tiles, {"sampler_power": 0.5, "focal_gamma": 1.0}, accumulate=accumulate)
    report = check_resumed(spec, killed_after(2, spec, tmp_path / "killed"), tmp_path)
    assert report.applied["accumulate"] == accumulate


def test_a_run_that_ultralytics_let_step_otherwise_fails_by_its_receipt(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(StrategyRun, "accumulate")  # so that it grows during the warm-up
    outcome = outcome_of(tiny_spec(tiles, {}, accumulate=2), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    for what in ("steps: asked 8, applied 9", "accumulate: asked 2, applied 1.7"):
        assert what in outcome.reason


def test_what_the_training_ran_on_and_in_is_read_back(tiles: Path, tmp_path: Path) -> None:
    applied = report_of(tiny_spec(tiles, {}, steps=2), tmp_path / "t").applied
    assert [applied[name] for name in ("device", "forward_dtype", "amp")] == ["cpu", "float32", "off"]
    again = report_of(tiny_spec(tiles, {}, steps=2), tmp_path / "u", resume=tmp_path / "t" / "checkpoint")
    assert again.applied == applied


def test_mixed_precision_that_is_off_fails_by_the_receipt(tiles: Path, tmp_path: Path) -> None:
    outcome = outcome_of(tiny_spec(tiles, {}, steps=2, amp="bf16"), tmp_path)  # and there is no GPU
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.reason) == ("receipt", "amp: asked bf16, applied off")


def test_the_forward_passes_are_what_autocast_makes_of_them(tiles: Path, tmp_path: Path) -> None:
    run = set_up(tiny_spec(tiles, {}, steps=2), tmp_path)
    (batch,) = [run.preprocess_batch(batch) for batch in run.train_loader][:1]
    seen = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            run.model.train()(batch)
        seen.append(run.model.criterion.bce.forward_dtype)
    assert seen == ["float32", "bfloat16"]
