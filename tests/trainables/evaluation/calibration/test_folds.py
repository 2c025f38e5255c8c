"""What biases and temperatures are worth, out of fold, and on another split."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_logits import Array, drawn, split
from scipy.special import log_softmax
from sklearn import metrics as oracle

from trainables.evaluation.calibration.fitting import FACTORS, fit_temperature, frozen, tune_biases, tuned_on
from trainables.evaluation.classification import classification_metrics


def gains_on_small_vals(shift: float) -> dict[str, float]:
    """Mean change of macro-F1 over 25 validation splits of 60 images; `fresh` are 3,000 others."""
    fresh, fresh_logits = drawn(999, (750,) * 4, shift=shift)
    rows = []
    for seed in range(25):
        label, logits = drawn(seed, (15,) * 4, shift=shift)
        found = tune_biases(logits, label, minority=np.array([0]), goal="macro_f1")

        def gain(label: Array, logits: Array, guess: Array) -> float:
            plain = logits.argmax(axis=1)
            one, other = (oracle.f1_score(label, called, average="macro") for called in (guess, plain))
            return float(one - other)

        rows.append(
            {
                "fresh": gain(fresh, fresh_logits, (fresh_logits + found.bias).argmax(axis=1)),
                "held out": gain(label, logits, found.held_out),
                "in sample": gain(label, logits, (logits + found.bias).argmax(axis=1)),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def test_where_nothing_can_be_gained_small_vals_do_little_harm_and_out_of_fold_claims_no_gain() -> None:
    gains = gains_on_small_vals(0.0)
    assert -0.006 < gains["fresh"] < 0
    assert gains["held out"] < 0.002
    assert gains["in sample"] > gains["held out"] + 0.01


def test_where_there_is_a_gain_small_vals_find_it_and_out_of_fold_does_not_flatter() -> None:
    gains = gains_on_small_vals(-2.0)
    assert gains["fresh"] > 0.012
    assert abs(gains["held out"] - gains["fresh"]) < 0.01
    assert gains["in sample"] > gains["fresh"] + 0.02  # what would be reported without the folds


def test_the_same_seed_gives_the_same_folds_and_another_seed_others() -> None:
    label, logits = drawn(0, (30, 90, 90), shift=-1)
    one, same, other = (
        tune_biases(logits, label, minority=np.array([0]), goal="macro_f1", seed=seed).held_out
        for seed in (0, 0, 1)
    )
    assert (one == same).all()
    assert (one != other).any()


def test_images_of_one_source_are_judged_by_the_same_fit_which_has_not_seen_them() -> None:
    label, logits = drawn(0, (40, 80, 80), shift=-2, sharpness=2)
    source = np.array([f"s{i % 20:02}" for i in range(len(label))])
    val = split(label, logits, source=source)
    tuned = tuned_on(val, goal="macro_f1")
    by_fit = {t: set(source[tuned.image_temperature == t]) for t in np.unique(tuned.image_temperature)}
    assert len(by_fit) == 5
    assert sum(len(sources) for sources in by_fit.values()) == 20  # none in two folds
    for temperature, sources in by_fit.items():
        seen = ~np.isin(source, list(sources))
        assert temperature == fit_temperature(val.logits[seen], label[seen])
    whole, split_up = (
        tune_biases(val.logits, label, minority=val.minority, goal="macro_f1", source=which).held_out
        for which in (source, None)
    )
    np.testing.assert_array_equal(tuned.tuned, whole)
    assert (whole != split_up).any()


def test_rare_classes_are_spread_over_the_folds() -> None:
    label, logits = drawn(0, (5, 40, 100), sharpness=2)
    tuned = tuned_on(split(label, logits), goal="macro_f1")
    _, fold = np.unique(tuned.image_temperature, return_inverse=True)
    assert [np.bincount(fold[label == c]).tolist() for c in (0, 1)] == [[1] * 5, [8] * 5]


def test_another_split_is_decided_with_what_val_gave_and_its_labels_change_nothing() -> None:
    val = tuned_on(split(*drawn(0, (20, 60, 60), shift=-2, sharpness=3)), goal="macro_f1")
    assert np.abs(val.bias).max() > 0
    assert val.temperature == pytest.approx(fit_temperature(val.logits, val.label))
    test = split(*drawn(1, (20, 60, 60), shift=-2, sharpness=3), split="test")
    judged = frozen(test, val)
    shuffled = frozen(replace(test, label=np.random.default_rng(0).permutation(test.label)), val)
    for one in (judged, shuffled):
        np.testing.assert_array_equal(one.bias, val.bias)
        assert one.temperature == val.temperature
        np.testing.assert_array_equal(one.tuned, (test.logits + val.bias).argmax(axis=1))
        assert set(one.image_temperature) == {val.temperature}
    metrics = classification_metrics(judged)
    log_p = log_softmax(test.logits.astype(np.float64) / val.temperature, axis=1)
    nll = oracle.log_loss(test.label, np.exp(log_p), labels=range(3))
    assert metrics["calibrated/nll"] == pytest.approx(nll)
    assert metrics["calibrated/nll"] < metrics["nll"]  # type: ignore[operator]
    assert metrics["calibrated/ece"] < metrics["ece"]  # type: ignore[operator]
    assert metrics["temperature"] == val.temperature


def test_factors_begin_with_untouched_so_that_a_tie_changes_nothing() -> None:
    assert FACTORS[0] == 0
    assert list(FACTORS) == sorted(FACTORS)
