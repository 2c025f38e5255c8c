from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from search.request.arms import known_arms
from spaces.strategy import NAMED, PLAIN, Strategy
from trainables.classifier import trainer as classifier
from trainables.classifier.applied import AppliedStrategy
from trainables.classifier.small_cnn import SmallCnn
from trainables.classifier.trainer import learning_rate, out_of_patience, warm_epochs
from trainables.contract.predictions import ClassificationPredictions, load_predictions
from trainables.contract.trial import DataSpec, TrainSpec, TrialFailure, TrialFolder, TrialReport, TrialSpec
from trainables.data.demo import digits
from trainables.data.images.pixels import resized
from trainables.evaluation.calibration.fitting import fit_temperature, tune_biases
from trainables.evaluation.classification import classification_metrics
from trainables.worker.run import run_trial

MINORITY = ("1", "8", "9")


def spec(strategy: Strategy = PLAIN, seed: int = 0, split: str = "val", **train: object) -> TrialSpec:
    short = {"model": "small_cnn", "imgsz": 8, "batch": 16, "steps": 30, "eval_every": 10}
    return TrialSpec(
        task="classification",
        strategy=strategy,
        data=DataSpec(source="demo:digits", minority=MINORITY),
        train=TrainSpec.model_validate(short | train),
        seed=seed,
        split=split,  # type: ignore[arg-type]
    )


def report(asked: TrialSpec, root: Path) -> TrialReport:
    outcome = run_trial(asked, TrialFolder(root), lambda _: None)
    assert isinstance(outcome, TrialReport), outcome
    return outcome


def test_it_learns_and_a_weighted_sampler_lifts_the_rare_classes(tmp_path: Path) -> None:
    train = {"batch": 32, "steps": 120, "eval_every": 60, "lr": 0.0025}
    plain = report(spec(**train), tmp_path).metrics
    weighted = report(spec(NAMED["weighted_half"], **train), tmp_path).metrics
    assert (plain["accuracy"] or 0) > 0.9
    assert (weighted["minority_recall"] or 0) > (plain["minority_recall"] or 0) + 0.1


@pytest.mark.parametrize("name", [name for name in known_arms("classification") if name in NAMED])
def test_every_named_strategy_is_applied_as_asked(name: str, tmp_path: Path) -> None:
    done = report(spec(NAMED[name], steps=10, eval_every=5), tmp_path)
    changed = NAMED[name].changed()
    assert {knob: done.applied[knob] for knob in changed} == pytest.approx(changed, abs=1e-3)


def test_a_knob_that_needs_boxes_fails_by_its_receipt(tmp_path: Path) -> None:
    asked = spec(Strategy.from_knobs({"mosaic": 0.5}), steps=1, eval_every=1)
    outcome = run_trial(asked, TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert (outcome.kind, outcome.reason) == ("receipt", "mosaic: asked 0.5, applied 0.0")


def test_without_a_sampler_the_exposure_is_the_share_of_rare_images(tmp_path: Path) -> None:
    n = digits.describe().splits["train"].images
    done = report(spec(batch=n, steps=1, eval_every=1), tmp_path)  # one whole pass
    assert done.unique_images == done.images_seen == n
    assert done.exposure == pytest.approx(24 / n)
    assert (
        done.applied["drawn_images"]
        == done.applied["train_images"]
        == digits.describe().splits["train"].objects
    )


def test_a_weighted_sampler_raises_the_exposure_as_its_receipt_counts(tmp_path: Path) -> None:
    done = report(spec(NAMED["weighted"]), tmp_path)
    drawn = done.applied["drawn_images"]
    assert done.exposure == pytest.approx(sum(drawn[name] for name in MINORITY) / sum(drawn.values()))
    assert done.exposure == pytest.approx(0.3, abs=0.06)


def test_the_exposure_of_a_sampler_that_hands_over_falls_from_balanced_to_natural(tmp_path: Path) -> None:
    done = report(spec(NAMED["deferred"], steps=60, eval_every=20), tmp_path)
    images = done.applied["train_images"]
    expected = []
    for power in (1.0, 0.5, 0.0):  # in the three epochs; a class is drawn in proportion to n * n^-power
        drawn = {name: n ** (1 - power) for name, n in images.items()}
        expected.append(sum(drawn[name] for name in MINORITY) / sum(drawn.values()))
    assert expected[0] == pytest.approx(0.3)
    assert done.applied["minority_share"] == pytest.approx(np.mean(expected))
    rarest = min(images.values())
    natural = rarest / sum(images.values())
    first, _, last = done.applied["rarest_share"]
    assert (first, last) == (pytest.approx(1 / 10), pytest.approx(natural))
    assert done.exposure == pytest.approx(np.mean(expected), abs=0.04)
    assert done.applied["alpha"]["8"] / done.applied["alpha"]["0"] == pytest.approx(images["0"] / images["8"])


def test_undersampling_thins_the_common_classes_only(tmp_path: Path) -> None:
    images = report(spec(NAMED["undersampled_40"]), tmp_path).applied["train_images"]
    assert all(images[name] == 8 for name in MINORITY)
    assert sum(images.values()) == 24 + round(0.4 * (digits.describe().splits["train"].images - 24))


def test_alpha_follows_the_images_that_are_left(tmp_path: Path) -> None:
    strategy = Strategy.from_knobs({"retention": 0.5, "alpha_power": 1.0, "alpha_prior": 1.0})
    applied = report(spec(strategy), tmp_path).applied
    alpha, images = applied["alpha"], applied["train_images"]
    assert alpha["8"] / alpha["0"] == pytest.approx(images["0"] / images["8"], rel=1e-5)


@pytest.mark.parametrize(
    ("spoil", "knob"),
    [
        pytest.param(lambda used: setattr(used.criteria[0], "gamma", 0.0), "focal_gamma", id="another gamma"),
        pytest.param(lambda used: used.criteria[0].alpha.fill_(1.0), "alpha_power", id="alpha not used"),
        pytest.param(lambda used: used.criteria[2].adjustment.zero_(), "logit_tau", id="logits not adjusted"),
        pytest.param(
            lambda used: setattr(used.criteria[1], "smoothing", 0.0), "label_smoothing", id="hard labels"
        ),
        pytest.param(
            lambda used: used.draws.__setitem__(2, used.draws[0]), "defer", id="draws that do not fade"
        ),
        pytest.param(
            lambda used: used.criteria.__setitem__(0, used.criteria[2]),
            "defer",
            id="a loss that does not rise",
        ),
        pytest.param(
            lambda used: object.__setattr__(used.draws[0], "weights", None),
            "sampler_power",
            id="uniform draws",
        ),
        pytest.param(lambda used: used.pipelines.update({1: None}), "augment_minority", id="no pipeline"),
        pytest.param(
            lambda used: object.__setattr__(used.draws[0], "seed", 7), "seed", id="the seed ignored"
        ),
    ],
)
def test_a_run_that_does_otherwise_fails_by_its_receipt(
    spoil: Callable[[AppliedStrategy], object], knob: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = classifier._Run.__init__

    def spoiled(run: classifier._Run, asked: TrialSpec) -> None:
        built(run, asked)
        spoil(run.strategy)

    monkeypatch.setattr(classifier._Run, "__init__", spoiled)
    busy = Strategy.from_knobs(
        {
            "sampler_power": 0.5,
            "defer": 0.5,
            "focal_gamma": 1,
            "alpha_power": 0.5,
            "logit_tau": 0.5,
            "label_smoothing": 0.1,
            "augment_minority": 0.5,
        }
    )
    outcome = run_trial(spec(busy), TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert f"{knob}: asked" in outcome.reason


def test_a_run_whose_loss_explodes_has_diverged(tmp_path: Path) -> None:
    outcome = run_trial(spec(lr=1e30), TrialFolder(tmp_path), lambda _: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "diverged"


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_stored_predictions_give_the_reported_metrics(split: str, tmp_path: Path) -> None:
    done = report(spec(NAMED["weighted"], split=split), tmp_path)
    stored = load_predictions(tmp_path / "result" / "predictions.npz")
    assert isinstance(stored, ClassificationPredictions)
    assert stored.split == split
    assert classification_metrics(stored).items() < done.metrics.items()
    np.testing.assert_array_equal(stored.image, digits.load()[split].ids)


def test_the_curve_is_measured_on_val_even_if_the_trial_ends_on_test(tmp_path: Path) -> None:
    on_val, on_test = report(spec(), tmp_path), report(spec(split="test"), tmp_path)
    assert on_val.curve == on_test.curve
    assert on_test.curve[-1].metrics["nll"] != on_test.metrics["nll"]
    assert on_test.metrics["train/minority_recall"] == on_val.metrics["train/minority_recall"]


def test_the_stored_weights_give_the_stored_logits(tmp_path: Path) -> None:
    report(spec(), tmp_path)
    stored = torch.load(tmp_path / "result" / "weights.pt", weights_only=True)
    model = SmallCnn(1, len(stored["class_names"]))
    model.load_state_dict(stored["state"])
    images = torch.from_numpy(digits.load()["val"].images.copy()).unsqueeze(1) / 127.5 - 1
    with torch.inference_mode():
        logits = model.eval()(images)
    predictions = load_predictions(tmp_path / "result" / "predictions.npz")
    assert isinstance(predictions, ClassificationPredictions)
    np.testing.assert_allclose(logits.numpy(), predictions.logits, atol=1e-4)


def test_recall_on_the_training_images_is_that_of_the_stored_weights(tmp_path: Path) -> None:
    strategy = Strategy.from_knobs({"retention": 0.2, "sampler_power": 0.3, "augment_minority": 0.5})
    done = report(spec(strategy), tmp_path)
    stored = torch.load(tmp_path / "result" / "weights.pt", weights_only=True)
    model = SmallCnn(1, len(stored["class_names"]))
    model.load_state_dict(stored["state"])
    train = digits.load()["train"]
    with torch.inference_mode():
        guess = model.eval()(torch.from_numpy(train.images.copy()).unsqueeze(1) / 127.5 - 1).argmax(dim=1)
    recalls = [float((guess.numpy()[train.labels == int(name)] == int(name)).mean()) for name in MINORITY]
    assert done.metrics["train/minority_recall"] == pytest.approx(np.mean(recalls))
    assert 0 < np.mean(recalls) < 1
    assert done.applied["minority_images"] == 24


def test_images_are_resized_to_imgsz(tmp_path: Path) -> None:
    done = report(spec(imgsz=12, steps=4, eval_every=2), tmp_path)
    assert done.steps == 4
    assert resized(digits.load()["val"].images, 12).shape == (449, 12, 12)


def test_the_learning_rate_peaks_after_warm_up_and_ends_at_its_final_share() -> None:
    rates = [learning_rate(step, steps=100, peak=0.01, final=0.05) for step in range(100)]
    assert rates.index(max(rates)) == 9
    assert max(rates) == 0.01
    assert rates[-1] == pytest.approx(0.0005)
    assert rates[0] == pytest.approx(0.001)


def test_a_run_of_one_step_reaches_the_asked_rate() -> None:
    assert learning_rate(0, steps=1, peak=0.01, final=0.05) == 0.01


@pytest.mark.parametrize(
    ("values", "patience", "out"),
    [
        pytest.param([0.5, 0.4, 0.4], 0, False, id="never without patience"),
        pytest.param([0.5, 0.4], 2, False, id="one epoch worse"),
        pytest.param([0.5, 0.4, 0.5], 2, True, id="two in a row not better"),
        pytest.param([0.5, 0.4, 0.6, 0.5], 2, False, id="the count starts anew"),
        pytest.param([], 2, False, id="not begun"),
    ],
)
def test_patience_ends_after_epochs_in_a_row_without_a_better_value(
    values: list[float], patience: int, out: bool
) -> None:
    assert out_of_patience(values, patience) is out


def test_a_run_stops_by_macro_f1_and_stays_stopped_when_it_is_resumed(tmp_path: Path) -> None:
    asked = spec(lr=0.0025, steps=60, eval_every=2, patience=1)  # without patience it stands still by and by
    stopped = report(asked, tmp_path / "a")
    f1 = [point.metrics["macro_f1"] or 0.0 for point in stopped.curve]
    assert stopped.steps == stopped.applied["steps"] == 2 * len(f1) < 60
    warm = warm_epochs(asked.train)
    assert warm == 3
    assert f1[-1] <= max(f1[warm:-1])
    assert all(after > before for before, after in pairwise(f1[warm:-1]))
    again = run_trial(asked, TrialFolder(tmp_path / "b", tmp_path / "a" / "checkpoint"), lambda _: None)
    assert isinstance(again, TrialReport)
    assert (again.steps, again.metrics) == (stopped.steps, stopped.metrics)


def test_a_run_that_stands_still_is_given_its_warm_up_and_what_it_applied_until_then(tmp_path: Path) -> None:
    asked = spec(NAMED["deferred"], lr=1e-9, steps=60, eval_every=2, patience=2)
    still = report(asked, tmp_path)  # its receipt has the whole learning rate
    assert len(still.curve) == 3 + 1 + 2  # of 30 epochs
    shares = still.applied["rarest_share"]
    assert len(shares) == 6
    assert sorted(shares, reverse=True) == shares
    assert shares[-1] > shares[0] / 2  # the sampler has not handed over yet
    assert still.applied["minority_share"] > 0.2


def test_torchs_global_state_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.manual_seed(11)
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    for model in ("small_cnn", "no_such_model"):  # the second fails
        run_trial(spec(NAMED["weighted_augmented"], model=model), TrialFolder(tmp_path), lambda _: None)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def stored(root: Path) -> ClassificationPredictions:
    predictions = load_predictions(root / "result" / "predictions.npz")
    assert isinstance(predictions, ClassificationPredictions)
    return predictions


@pytest.mark.parametrize("name", ["plain", "weighted"])
def test_baseline_and_candidate_are_tuned_alike_on_val_and_frozen_for_test(name: str, tmp_path: Path) -> None:
    on_val, on_test = (report(spec(NAMED[name], split=split), tmp_path / split) for split in ("val", "test"))
    val, test = stored(tmp_path / "val"), stored(tmp_path / "test")
    by_hand = tune_biases(
        val.logits,
        val.label,
        minority=val.minority,
        goal="macro_f1",
        weight=val.weight,
        source=val.source,
    )
    assert np.abs(by_hand.bias).max() > 0
    temperature = fit_temperature(val.logits, val.label, val.weight)
    for predictions in (val, test):
        np.testing.assert_array_equal(predictions.bias, by_hand.bias)
        assert predictions.temperature == temperature
    np.testing.assert_array_equal(val.tuned, by_hand.held_out)
    np.testing.assert_array_equal(test.tuned, (test.logits + by_hand.bias).argmax(axis=1))
    for done, predictions in ((on_val, val), (on_test, test)):
        f1 = f1_score(predictions.label, predictions.tuned, average="macro", sample_weight=predictions.weight)
        assert done.metrics["tuned/macro_f1"] == pytest.approx(f1)
        assert done.metrics["temperature"] == temperature
        assert not any(name.startswith(("tuned/", "calibrated/")) for name in done.curve[-1].metrics)
    assert on_test.metrics["calibrated/nll"] < on_test.metrics["nll"]  # type: ignore[operator]
    weights = torch.load(tmp_path / "test" / "result" / "weights.pt", weights_only=True)
    np.testing.assert_array_equal(weights["bias"].numpy(), by_hand.bias)
    assert weights["temperature"] == temperature


def test_no_label_of_the_test_split_reaches_the_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = report(spec(split="test"), tmp_path / "sound")
    predict = classifier._Run.predict

    def mislabelled(run: classifier._Run, split: str) -> ClassificationPredictions:
        predictions = predict(run, split)
        shuffled = np.random.default_rng(0).permutation(predictions.label)
        return replace(predictions, label=shuffled) if split == "test" else predictions

    monkeypatch.setattr(classifier._Run, "predict", mislabelled)
    other = report(spec(split="test"), tmp_path / "other")
    assert other.metrics["tuned/accuracy"] < 0.5 < sound.metrics["tuned/accuracy"]  # type: ignore[operator]
    for field in ("logits", "bias", "temperature", "tuned", "image_temperature"):
        np.testing.assert_array_equal(
            getattr(stored(tmp_path / "sound"), field), getattr(stored(tmp_path / "other"), field)
        )


def test_the_biases_follow_the_goal_of_the_study(tmp_path: Path) -> None:
    train = {"batch": 32, "steps": 120, "eval_every": 60, "lr": 0.0025, "split": "test"}
    asked = spec(**train, tune="minority_recall", tune_min_precision=0.2)  # type: ignore[arg-type]
    assert asked.key != spec(**train).key  # type: ignore[arg-type]
    macro = report(spec(**train), tmp_path / "macro")  # type: ignore[arg-type]
    recall = report(asked, tmp_path / "recall")
    np.testing.assert_array_equal(stored(tmp_path / "macro").logits, stored(tmp_path / "recall").logits)
    assert recall.metrics["tuned/minority_recall"] > macro.metrics["tuned/minority_recall"]  # type: ignore[operator]
    assert recall.metrics["tuned/macro_f1"] < macro.metrics["tuned/macro_f1"]  # type: ignore[operator]
