import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trials import RUN, outcome_of, report_of

from spaces.errors import UsageError
from spaces.strategy import NAMED, PLAIN, Strategy
from trainables.contract.trial import DataSpec, TrainSpec, TrialFailure, TrialSpec
from trainables.data.demo.toy import describe
from trainables.worker import toy


def spec(model: str = "toy", strategy: Strategy = PLAIN, seed: int = 0, split: str = "val") -> TrialSpec:
    return TrialSpec(
        task="toy",
        strategy=strategy,
        data=DataSpec(source="demo:toy", minority=("rare",)),
        train=TrainSpec(model=model, steps=50, eval_every=10),
        seed=seed,
        split=split,  # type: ignore[arg-type]
    )


def moved(knobs: dict[str, float], metric: str) -> float:
    """What the knobs change against the baseline, without noise."""
    return toy.true_metrics(Strategy.from_knobs(knobs))[metric] - toy.true_metrics(PLAIN)[metric]


@pytest.mark.parametrize(
    "knobs",
    [
        {"sampler_power": 0.5},
        {"retention": 0.4},
        {"alpha_power": 0.5},
        {"logit_tau": 1.0},
        {"sampler_power": 1.0},
    ],
)
def test_pushing_towards_the_rare_class_gains_recall_and_costs_map(knobs: dict[str, float]) -> None:
    assert moved(knobs, "minority_recall") > 0.03
    assert moved(knobs, "map50_95") < 0


@pytest.mark.parametrize("knob", ["augment_rest", "max_repeat", "alpha_cap", "class_balance"])
def test_inert_knobs_change_nothing(knob: str) -> None:
    assert toy.true_metrics(Strategy.from_knobs({knob: 1.0})) == toy.true_metrics(PLAIN)


def test_the_best_augmentation_and_focal_exponent_lie_inside_their_ranges() -> None:
    for knob, inside, end in (("augment_minority", 0.7, 1.0), ("focal_gamma", 1.0, 3.0)):
        assert moved({knob: inside}, "minority_recall") > max(0, moved({knob: end}, "minority_recall"))


def test_the_guard_on_map_binds_before_recall_is_at_its_best() -> None:
    best = max(
        (
            {"sampler_power": s, "alpha_power": a}
            for s in np.linspace(0, 1, 11)
            for a in np.linspace(0, 1, 11)
        ),
        key=lambda knobs: moved(knobs, "minority_recall"),
    )
    assert moved(best, "map50_95") < -0.03
    assert moved({"sampler_power": 0.5, "augment_minority": 0.7}, "map50_95") > -0.03


def test_noise_has_the_stated_mean_and_spread(tmp_path: Path) -> None:
    strategy = NAMED["weighted"]
    seen = [report_of(spec(strategy=strategy, seed=s), tmp_path).metrics for s in range(200)]
    for metric, sd in toy.SEED_SD.items():
        values = np.array([metrics[metric] for metrics in seen])
        assert values.mean() == pytest.approx(toy.true_metrics(strategy)[metric], abs=4 * sd / 200**0.5)
        assert values.std(ddof=1) == pytest.approx(sd, rel=0.25)


@pytest.mark.parametrize(
    ("name", "exposure"),
    [("plain", 0.04), ("filtered", 1.0), ("weighted", 0.5), ("undersampled_40", 40 / (40 + 0.4 * 960))],
)
def test_exposure_follows_the_sampling(tmp_path: Path, name: str, exposure: float) -> None:
    assert report_of(spec(strategy=NAMED[name]), tmp_path).exposure == pytest.approx(exposure)


def test_the_two_splits_have_their_own_noise(tmp_path: Path) -> None:
    assert report_of(spec(), tmp_path).metrics != report_of(spec(split="test"), tmp_path).metrics


def test_the_learning_curve_rises_to_the_final_metrics(tmp_path: Path) -> None:
    done = report_of(spec(), tmp_path)
    maps = [point.metrics["map50_95"] or 0.0 for point in done.curve]
    assert maps[0] < 0.7 * maps[-1]
    assert done.curve[-1].metrics.items() < done.metrics.items()
    assert [point.epoch for point in done.curve] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("model", "kind", "reason"),
    [
        ("toy:nan", "diverged", "not finite at epoch 1"),
        ("toy:nan=3", "diverged", "not finite at epoch 3"),
        ("toy:sleep=0.001,raise=2", "error", "told to raise at epoch 2"),
        ("toy:receipt", "receipt", "seed: asked 0, applied 1"),
        ("toy:memory", "memory", "more than 0 of a GPU"),
    ],
)
def test_injected_faults_become_failures(tmp_path: Path, model: str, kind: str, reason: str) -> None:
    outcome = outcome_of(spec(model), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == kind
    assert reason in outcome.reason


def test_faults_do_not_change_the_metrics(tmp_path: Path) -> None:
    assert report_of(spec("toy:sleep=0.001"), tmp_path).metrics == report_of(spec(), tmp_path).metrics


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("toy:slep=1", "no such toy fault 'slep'"),
        ("toy:sleep=long", "sleep needs a number, got 'long'"),
        ("yolo", "no model 'yolo'"),
    ],
)
def test_a_misspelt_model_is_the_persons_error(model: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        toy.parse_faults(model)


def test_a_process_killed_at_epoch_3_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    asked = spec("toy:kill_at=3")
    (tmp_path / "killed").mkdir()
    arguments = [sys.executable, "-c", RUN, asked.model_dump_json(), str(tmp_path / "killed")]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    checkpoint = tmp_path / "killed" / "checkpoint"
    assert json.loads((checkpoint / toy.STATE).read_text())["epoch"] == 2
    resumed = report_of(asked, tmp_path, resume=checkpoint)
    uninterrupted = report_of(spec(), tmp_path)
    assert (resumed.metrics, resumed.curve) == (uninterrupted.metrics, uninterrupted.curve)
    assert resumed.restarts == 1


def test_recall_on_the_training_images_exceeds_that_on_val(tmp_path: Path) -> None:
    metrics = report_of(spec(), tmp_path).metrics
    assert metrics["train/minority_recall"] == pytest.approx((metrics["minority_recall"] or 0) + 0.1)


def test_the_summary_fits_the_receipt(tmp_path: Path) -> None:
    applied = report_of(spec(), tmp_path).applied
    assert (applied["majority_images"], applied["minority_images"]) == (960, 40)
    train = describe().splits["train"]
    assert train.objects == {"common": 960, "rare": 40}
    assert len(train.classes_per_image) == train.images == 1000


def test_the_toy_needs_no_torch() -> None:
    code = "import sys; from trainables.worker import run, toy; "
    code += "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
