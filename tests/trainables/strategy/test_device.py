"""Where a run computes, on what it was given; and what was read back of it."""

from pathlib import Path

import pytest
import torch
from trials import outcome_of

from spaces.strategy import Strategy
from trainables.contract.node import GPUS, own_device, own_gpus
from trainables.contract.trial import DataSpec, ReceiptMismatch, TrainSpec, TrialFailure, TrialSpec
from trainables.strategy.device import given_device, of_device

# Of each trainer, a run that would begin to train.
MODELS = {
    "classification": ("demo:digits", "1", "small_cnn"),
    "detection": ("demo:cytology", "cluster", "yolo_tiny.yaml"),
}


def test_without_a_gpu_of_its_own_a_run_is_on_the_cpu_even_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv(GPUS, raising=False)
    assert (own_gpus(), own_device(), given_device().type) == (0.0, "cpu", "cpu")
    monkeypatch.setenv(GPUS, "0")
    assert given_device().type == "cpu"
    monkeypatch.setenv(GPUS, "0.25")
    assert (own_gpus(), own_device(), given_device().type) == (0.25, "cuda", "cuda")


def old_driver() -> None:
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update it")


@pytest.mark.parametrize(
    ("init", "why"),
    [(old_driver, "too old (found version 11040).)"), (lambda: None, "(it gives no reason)")],
)
def test_a_gpu_that_torch_does_not_see_is_refused_with_torchs_own_reason(
    init: object, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv(GPUS, "0.5")
    with pytest.raises(ReceiptMismatch, match=r"resources\.gpu: asked 0\.5, but torch sees no GPU") as raised:
        given_device()
    assert str(raised.value).endswith(why)


@pytest.mark.parametrize("task", MODELS)
def test_a_run_with_a_gpu_that_torch_does_not_see_fails_before_it_trains(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(GPUS, "1")
    source, minority, model = MODELS[task]
    spec = TrialSpec.model_validate(
        {
            "task": task,
            "strategy": Strategy(),
            "data": DataSpec(source=source, minority=(minority,)),
            "train": TrainSpec(model=model, imgsz=32, steps=2, eval_every=1),
            "seed": 0,
        }
    )
    outcome = outcome_of(spec, tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert "torch sees no GPU" in outcome.reason
    assert not list((tmp_path / "checkpoint").iterdir())


@pytest.mark.parametrize(
    ("dtypes", "amp"),
    [
        pytest.param(["float32", "float32"], "off", id="full precision"),
        pytest.param(["bfloat16"], "bf16", id="mixed"),
        pytest.param(["float16"], "float16", id="of a kind that nobody can ask for"),
        pytest.param(["float32", "bfloat16"], None, id="the branches differ"),
        pytest.param([None], None, id="nothing went through"),
    ],
)
def test_precision_is_what_went_through_the_network(dtypes: list[str | None], amp: str | None) -> None:
    read = of_device(torch.nn.Linear(2, 2), dtypes)
    assert (read["device"], read["amp"]) == ("cpu", amp)


def test_a_model_on_two_devices_is_on_none() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    assert of_device(model, ["float32"])["device"] is None
