"""What a classifier does where memory is short, and what it says of the device that it was trained on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trials import killed_after, outcome_of, report_of

from spaces.strategy import PLAIN, Strategy
from trainables.classifier.small_cnn import SmallCnn
from trainables.contract.trial import DataSpec, TrainSpec, TrialFailure, TrialSpec


def spec(strategy: Strategy = PLAIN, **train: Any) -> TrialSpec:
    short = {"model": "small_cnn", "imgsz": 8, "batch": 16, "steps": 20, "eval_every": 5}
    return TrialSpec(
        task="classification",
        strategy=strategy,
        data=DataSpec(source="demo:digits", minority=("1", "8", "9")),
        train=TrainSpec.model_validate(short | train),
        seed=0,
    )


def weights_in(root: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(root / "result" / "weights.pt", weights_only=True)["state"]
    return state


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("Unable to allocate 9 GiB"),
    ],
)
def test_out_of_memory_is_said(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: SmallCnn, images: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(SmallCnn, "forward", fail)
    outcome = outcome_of(spec(), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.retry) == ("memory", False)
    assert f"batch 16, imgsz 8, on a CPU: out of memory ({error}); less is needed with" in outcome.reason


def test_a_batch_in_parts_takes_the_same_steps_to_nearly_the_same_weights(tmp_path: Path) -> None:
    busy = Strategy.from_knobs({"sampler_power": 0.5, "alpha_power": 0.5, "augment_minority": 0.5})
    whole = report_of(spec(busy), tmp_path / "whole")
    parts = report_of(spec(busy, accumulate=4), tmp_path / "parts")
    other = report_of(spec(busy.from_knobs({"sampler_power": 0.6})), tmp_path / "other")
    assert parts.steps == whole.steps == 20
    assert [report.applied["accumulate"] for report in (whole, parts, other)] == [1, 4, 1]
    assert [report.applied["batch"] for report in (whole, parts)] == [16, 16]
    assert parts.applied["drawn_images"] == whole.applied["drawn_images"]

    def distance(name: str) -> float:
        ours, theirs = weights_in(tmp_path / name), weights_in(tmp_path / "whole")
        return max(float((ours[key] - theirs[key]).abs().max()) for key in theirs)

    assert distance("parts") < 1e-3 < 1e-2 < distance("other")


def test_a_killed_run_in_parts_goes_on_bit_for_bit(tmp_path: Path) -> None:
    asked = spec(Strategy.from_knobs({"focal_gamma": 2.0}), accumulate=4)
    whole = report_of(asked, tmp_path / "whole")
    resumed = report_of(asked, tmp_path / "again", resume=killed_after(2, asked, tmp_path / "killed"))
    assert resumed.applied == whole.applied
    assert whole.applied["focal_scale"][0] > 1
    ours, theirs = weights_in(tmp_path / "again"), weights_in(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("amp", "dtype"), [("off", "float32"), ("bf16", "bfloat16")])
def test_what_the_training_ran_on_and_in_is_read_back(amp: str, dtype: str, tmp_path: Path) -> None:
    applied = report_of(spec(amp=amp, steps=5), tmp_path).applied
    assert [applied[name] for name in ("device", "forward_dtype", "amp")] == ["cpu", dtype, amp]


def test_mixed_precision_that_was_off_fails_by_the_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: plain("cpu", enabled=False))
    outcome = outcome_of(spec(amp="bf16", steps=5), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.reason) == ("receipt", "amp: asked bf16, applied off")
