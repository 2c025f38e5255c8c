"""Where a run computes, on what it was given; and what was read back of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trials import outcome_of

from spaces.strategy import Strategy
from trainables.contract.node import GPUS, own_device, own_gpus
from trainables.contract.trial import DataSpec, ReceiptMismatch, TrainSpec, TrialFailure, TrialSpec
from trainables.strategy.device import BESIDE_TENSORS, given_device, memory_fraction, of_device

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
    bounded = with_a_gpu_of(80 * GIB, monkeypatch)
    assert (own_gpus(), own_device(), given_device().type) == (0.25, "cuda", "cuda")
    assert bounded == [0.240625]


GIB = 2**30


def with_a_gpu_of(memory: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The fractions of a GPU's memory that this process is bounded to from here on, in order."""
    bounded: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory)
    )
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", bounded.append)
    return bounded


def test_a_reused_workers_next_run_has_the_memory_of_its_own_share(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = with_a_gpu_of(24 * GIB, monkeypatch)
    for gpus in ("0.25", "1", "0.5", "0"):  # the second got the whole of it after it ran out of memory
        monkeypatch.setenv(GPUS, gpus)
        given_device()
    assert bounded == [0.25 - 0.75 / 24, 1.0, 0.5 - 0.75 / 24]


@pytest.mark.parametrize(
    ("share", "memory", "fraction"),
    [
        pytest.param(1.0, 8 * GIB, 1.0, id="all of it"),
        pytest.param(0.5, 24 * GIB, 0.46875, id="less what CUDA takes for each process"),
        pytest.param(0.125, 8 * GIB, 0.0625, id="of which a small GPU has not enough"),
    ],
)
def test_the_part_of_a_gpus_memory_that_a_share_is(share: float, memory: int, fraction: float) -> None:
    assert memory_fraction(share, memory) == fraction


@pytest.mark.parametrize("runs", range(2, 9))
def test_runs_that_share_a_gpu_never_have_more_than_it_has(runs: int) -> None:
    for memory in (16 * GIB, 24 * GIB, 80 * GIB):
        each = memory_fraction(1 / runs, memory) * memory + BESIDE_TENSORS
        assert each * runs <= memory * (1 + 1e-9)


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
