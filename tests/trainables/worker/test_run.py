import errno
import json
import math
import shutil
import socket
from pathlib import Path

import pytest
import torch
from drawn_images import write_folder
from small_disk import Disk

from spaces.strategy import NAMED
from trainables.contract.kept import read_progress
from trainables.contract.space import is_out_of_space, out_of_space
from trainables.contract.trial import (
    PROGRESS,
    DataSpec,
    EpochMetrics,
    ReceiptMismatch,
    Saves,
    TrainSpec,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)
from trainables.data.mapped import LIMIT
from trainables.data.staging.staged import as_seen
from trainables.worker import toy
from trainables.worker.run import check_receipt, run_trial


class Stop(Exception):
    """What a caller stops a run with."""


def spec(model: str = "toy") -> TrialSpec:
    return TrialSpec(
        task="toy",
        strategy=NAMED["undersampled_40"],
        data=DataSpec(source="demo:toy", minority=("rare",)),
        train=TrainSpec(model=model, steps=60, eval_every=10),
        seed=3,
    )


def receipt(**changed: object) -> dict[str, object]:
    asked = spec()
    honest = {
        **asked.strategy.knobs(),
        "steps": 60,
        "batch": 16,
        "accumulate": 1,
        "amp": "off",
        "device": "cpu",
        "lr": 0.004,
        "seed": 3,
        "majority_images": 900,
    }
    return {**honest, **changed}


@pytest.mark.parametrize(
    ("steps", "fits"), [(60, True), (20, True), (15, False), (0, False), (70, False), (None, False)]
)
def test_a_run_with_patience_may_stop_after_any_whole_epoch(steps: int | None, fits: bool) -> None:
    asked = spec()
    patient = asked.model_copy(update={"train": asked.train.model_copy(update={"patience": 2})})
    if fits:
        check_receipt(patient, receipt(steps=steps))
    else:
        with pytest.raises(ReceiptMismatch, match="steps"):
            check_receipt(patient, receipt(steps=steps))


def test_a_trial_that_raises_is_a_value_with_its_traceback(tmp_path: Path) -> None:
    outcome = run_trial(spec("toy:raise=2"), TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.retry, outcome.key) == ("error", False, spec("toy:raise=2").key)
    assert "Traceback" in outcome.reason
    assert "RuntimeError: the toy was told to raise at epoch 2" in outcome.reason


def test_divergence_is_a_failure_of_its_own_kind(tmp_path: Path) -> None:
    outcome = run_trial(spec("toy:nan"), TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "diverged"


def test_a_wrong_receipt_is_a_failure_and_says_what_differs(tmp_path: Path) -> None:
    outcome = run_trial(spec("toy:receipt"), TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert outcome.reason == "seed: asked 3, applied 4"


@pytest.mark.parametrize("exposure", [-0.1, 1.375, math.nan])
def test_an_exposure_that_is_no_share_fails_the_receipt(
    exposure: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "_exposure", lambda strategy: exposure)
    outcome = run_trial(spec(), TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert outcome.reason == f"exposure: a share of the draws, applied {exposure:g}"


@pytest.mark.parametrize("error", [Stop("enough"), RuntimeError("also of a kind that training raises")])
def test_what_the_caller_raises_passes_through(tmp_path: Path, error: Exception) -> None:
    def stop(measured: EpochMetrics) -> None:
        if measured.epoch == 2:
            raise error

    with pytest.raises(type(error)) as raised:
        run_trial(spec(), TrialFolder(tmp_path), stop)
    assert raised.value is error


def test_the_checkpoint_is_there_before_the_caller_hears_of_the_epoch(tmp_path: Path) -> None:
    seen = []

    def look(measured: EpochMetrics) -> None:
        stored = json.loads((tmp_path / "checkpoint" / PROGRESS).read_text())
        seen.append((measured.epoch, len(stored["curve"])))

    run_trial(spec(), TrialFolder(tmp_path), look)
    assert seen == [(epoch, epoch) for epoch in range(1, 7)]


@pytest.mark.parametrize(
    ("every_s", "written"),
    [
        pytest.param(0.0, [1, 2, 3, 4, 5, 6], id="after each epoch"),
        pytest.param(1.5, [2, 4, 6], id="after the epoch in which the time is over"),
        pytest.param(4.0, [4, 6], id="when it is just over"),
        pytest.param(60.0, [6], id="at the end alone"),
    ],
)
def test_a_state_is_written_when_its_time_has_come_and_after_the_last_epoch(
    every_s: float, written: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, fresh = [0.0], []
    monkeypatch.setattr(toy, "_misbehave", lambda *args, **known: now.append(now[-1] + 1))  # an epoch: 1 s
    folder = TrialFolder(tmp_path, saves=Saves(every_s, lambda: now[-1]))

    def look(measured: EpochMetrics) -> None:
        if folder.saves.fresh:
            fresh.append(len(read_progress(folder.checkpoint).curve))

    assert isinstance(run_trial(spec(), folder, look), TrialReport)
    assert fresh == written


def test_a_resumed_run_has_the_whole_curve_its_time_and_its_restarts(tmp_path: Path) -> None:
    whole = run_trial(spec("toy:sleep=0.02"), TrialFolder(tmp_path), lambda _: None)
    checkpoint, told = tmp_path / "earlier", []
    for stop_at in (2, 5):
        folder = TrialFolder(tmp_path, resume=checkpoint if checkpoint.exists() else None)

        def stop(measured: EpochMetrics, stop_at: int = stop_at) -> None:
            told.append(measured.epoch)
            if measured.epoch == stop_at:
                raise Stop

        with pytest.raises(Stop):
            run_trial(spec("toy:sleep=0.02"), folder, stop)
        shutil.copytree(folder.checkpoint, checkpoint, dirs_exist_ok=True)
    done = run_trial(spec("toy:sleep=0.02"), TrialFolder(tmp_path, resume=checkpoint), lambda _: None)
    assert isinstance(whole, TrialReport)
    assert isinstance(done, TrialReport)
    assert told == [1, 2, 3, 4, 5]
    assert (done.curve, done.metrics) == (whole.curve, whole.metrics)
    assert done.restarts == 2
    assert done.seconds >= 6 * 0.02


@pytest.mark.parametrize("name", ["checkpoint/state.json", "checkpoint/progress.json", "result/report.json"])
def test_a_full_disk_is_no_failure_of_the_strategy(tmp_path: Path, name: str) -> None:
    full = tmp_path / f"{name}.tmp"
    full.parent.mkdir()
    full.symlink_to("/dev/full")
    outcome = run_trial(spec(), TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.retry) == ("disk", True)
    assert outcome.reason == f"no space left on {socket.gethostname()} for {tmp_path}"


def test_torch_says_in_its_own_words_that_a_disk_is_full() -> None:
    with pytest.raises(RuntimeError, match="inline_container") as raised:
        torch.save(torch.zeros(1_000_000), "/dev/full")
    assert is_out_of_space(raised.value)
    assert not is_out_of_space(OSError(5, "Input/output error"))


def test_an_honest_receipt_is_accepted() -> None:
    check_receipt(spec(), receipt())


def test_retention_may_be_off_by_half_an_image() -> None:
    check_receipt(spec(), receipt(retention=0.4 + 0.49 / 900))
    with pytest.raises(ReceiptMismatch, match="retention"):
        check_receipt(spec(), receipt(retention=0.4 + 0.6 / 900))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"lr": 0.01}, "lr: asked 0.004, applied 0.01", id="another value"),
        pytest.param({"sampler_power": None}, "sampler_power: asked 0.0, applied None", id="not confirmed"),
        pytest.param({"steps": math.nan}, "steps: asked 60, applied nan", id="NaN equals nothing"),
        pytest.param({"seed": 4, "batch": 8}, "batch: .*; seed: ", id="everything that differs is said"),
    ],
)
def test_a_receipt_that_differs_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ReceiptMismatch, match=message):
        check_receipt(spec(), receipt(**changed))


def test_a_knob_missing_from_the_receipt_is_refused() -> None:
    applied = receipt()
    del applied["focal_gamma"]
    with pytest.raises(ReceiptMismatch, match="focal_gamma"):
        check_receipt(spec(), applied)


def test_the_disk_that_is_full_is_named_not_the_one_that_was_copied_from(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", "1m")
    try:
        disk.fill()
        error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "from"), None, None)
        assert out_of_space("key", error, disk.root / "to").reason.endswith(f"for {disk.root / 'to'}")
    finally:
        disk.close()


def on_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialSpec:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    data = write_folder(
        tmp_path / "set", {f"{split}/{name}": 4 for split in ("train", "val") for name in "ab"}
    )
    return TrialSpec(
        task="classification",
        strategy=NAMED["plain"],
        data=DataSpec(source=f"file://{data}", minority=("b",)),
        train=TrainSpec(model="small_cnn", imgsz=16, steps=2, eval_every=1),
        seed=0,
    )


def test_data_that_change_under_a_search_are_no_failure_of_the_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = on_storage(tmp_path, monkeypatch)
    with as_seen({asked.data.source: "0" * 32}):
        outcome = run_trial(asked, TrialFolder(tmp_path), lambda measured: None)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.retry) == ("lost", True)
    assert outcome.reason == f"data: {asked.data.source} has changed since the search looked at it"


def test_a_node_without_room_for_the_data_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = on_storage(tmp_path, monkeypatch)
    monkeypatch.setenv(LIMIT, "0.00001")
    outcome = run_trial(asked, TrialFolder(tmp_path), lambda measured: None)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.retry) == ("disk", True)
    assert f"no space left on {socket.gethostname()} for {tmp_path}/cache/staged/" in outcome.reason
