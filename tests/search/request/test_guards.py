import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.request.guards import Floor, MaxDrop, MissingMetric, unmeasured, violations

unit = st.floats(0, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(0.48, 0.0, id="exactly at the limit is feasible"),
        pytest.param(0.47, 0.01, id="beyond the limit by the distance"),
        pytest.param(0.60, -0.12, id="a gain is feasible"),
    ],
)
def test_max_drop_measures_the_distance_beyond_the_allowed_drop(value: float, expected: float) -> None:
    assert MaxDrop(metric="map50_95", max_drop=0.02).violation(value, 0.50) == pytest.approx(
        expected, abs=1e-12
    )


def test_float_noise_at_the_limit_is_rounded_to_zero() -> None:
    assert 0.50 - 0.48 - 0.02 > 0  # what Optuna would call infeasible
    assert MaxDrop(metric="map50_95", max_drop=0.02).violation(0.48, 0.50) == 0.0


def test_a_metric_where_lower_is_better_drops_by_rising() -> None:
    assert MaxDrop(metric="ece", max_drop=0.02).violation(0.10, 0.05) == pytest.approx(0.03)


def test_a_floor_ignores_the_baseline() -> None:
    assert Floor(metric="accuracy", floor=0.9).violation(0.85, None) == pytest.approx(0.05)


def test_a_metric_that_was_not_measured_is_no_zero() -> None:
    with pytest.raises(MissingMetric, match="minority_ap50"):
        violations(
            (MaxDrop(metric="minority_ap50", max_drop=0),), {"minority_ap50": None}, {"minority_ap50": 0.4}
        )
    with pytest.raises(MissingMetric):
        violations((MaxDrop(metric="minority_ap50", max_drop=0),), {"minority_ap50": 0.4}, {})


@pytest.mark.parametrize("metric", ["minority_precision", "deployed/minority_precision", "precision/cluster"])
def test_a_model_that_calls_nothing_a_minority_object_misses_a_precisions_floor_in_full(metric: str) -> None:
    guards = (Floor(metric=metric, floor=0.2),)
    nothing = {metric: None, metric.replace("precision", "recall"): 0.0}
    assert violations(guards, nothing, nothing) == {metric: 0.2}
    assert unmeasured(guards, nothing) == []
    assert violations((MaxDrop(metric=metric, max_drop=0.2),), nothing, nothing) == {metric: -0.2}
    assert unmeasured(guards, {metric: None}) == [metric]  # there is nothing to find


def test_another_floor_needs_its_metric() -> None:
    guards = (Floor(metric="recall/precision", floor=0.2),)
    with pytest.raises(MissingMetric):
        violations(guards, {"recall/precision": None}, {})
    assert unmeasured(guards, {"recall/precision": None}) == ["recall/precision"]


def test_of_two_guards_on_one_metric_the_worse_counts() -> None:
    guards = (MaxDrop(metric="accuracy", max_drop=0.1), Floor(metric="accuracy", floor=0.9))
    assert violations(guards, {"accuracy": 0.85}, {"accuracy": 0.9})["accuracy"] == pytest.approx(0.05)


@given(value=unit, better=unit, baseline=unit, drop=unit)
def test_a_better_value_never_violates_more(
    value: float, better: float, baseline: float, drop: float
) -> None:
    guard = MaxDrop(metric="map50", max_drop=drop)
    low, high = sorted((value, better))
    assert guard.violation(high, baseline) <= guard.violation(low, baseline)
