from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from search.judging.statistics.bounds import Floats
from search.judging.statistics.jackknife import (
    Bools,
    Replicates,
    TooFewSources,
    UnmeasurableWithout,
    jackknife,
    leave_one_source_out,
    split_noise,
)


def mean_over(values: Floats, sources: Sequence[str]) -> Replicates:
    """A metric that is a mean over images."""

    def measure(keep: Bools) -> dict[str, float | None]:
        return {"mean": float(values[keep].mean())}

    return leave_one_source_out(measure, sources, ["mean"])["mean"]


def test_for_a_mean_of_equal_sources_the_jackknife_is_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=12)
    sources = [f"slide{i}" for i in range(12)]
    noise = split_noise([mean_over(values, sources)])
    assert noise.variance == pytest.approx(stats.sem(values) ** 2)
    assert noise.df == 11
    assert noise.half_width(0.05) == pytest.approx(stats.t.isf(0.05, 11) * stats.sem(values))


def test_images_of_one_source_are_left_out_together() -> None:
    per_slide = np.random.default_rng(0).normal(size=10)
    once = split_noise([mean_over(per_slide, [str(i) for i in range(10)])])
    thrice = split_noise([mean_over(np.repeat(per_slide, 3), [str(i // 3) for i in range(30)])])
    assert thrice.variance == pytest.approx(float(once.variance))


def test_what_candidate_and_baseline_share_cancels() -> None:
    hard = np.random.default_rng(0).normal(size=20)
    sources = [str(i) for i in range(20)]
    baseline = mean_over(hard, sources)
    candidate = mean_over(hard + 0.1, sources)
    assert split_noise([candidate], [baseline]).variance == pytest.approx(0, abs=1e-20)
    assert split_noise([candidate]).variance > 0.01


def test_deviations_are_averaged_over_seeds() -> None:
    rng = np.random.default_rng(0)
    sources = tuple(str(i) for i in range(10))
    runs = [Replicates(0.5, 0.5 + rng.normal(size=10), sources) for _ in range(3)]
    mean = Replicates(0.5, np.mean([run.without for run in runs], axis=0), sources)
    assert split_noise(runs).variance == pytest.approx(float(split_noise([mean]).variance))


def test_too_few_sources_are_an_error_that_says_so() -> None:
    with pytest.raises(TooFewSources, match="9 source images, 10 are needed"):
        mean_over(np.zeros(9), [str(i) for i in range(9)])


def test_a_metric_that_hangs_on_one_source_is_an_error_that_names_it() -> None:
    with pytest.raises(UnmeasurableWithout, match="without source 's3': recall is None"):
        leave_one_source_out(
            lambda keep: {"accuracy": 0.9, "recall": 0.5 if keep[3] else None},
            [f"s{i}" for i in range(10)],
            ["accuracy", "recall"],
        )


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_metric_that_the_whole_split_cannot_tell_is_an_error(value: float | None) -> None:
    with pytest.raises(UnmeasurableWithout, match=f"test split: recall is {value}"):
        leave_one_source_out(lambda _: {"recall": value}, [f"s{i}" for i in range(10)], ["recall"])


def test_several_metrics_are_measured_at_once_and_only_those_asked_for() -> None:
    def measure(keep: Bools) -> dict[str, float | None]:
        calls.append(keep)
        return {"kept": float(keep.sum()), "last": float(keep[-1]), "other": None}

    calls: list[Bools] = []
    sources = [*"bcdefghij", "a", "a"]
    found = leave_one_source_out(measure, sources, ["kept", "last"])
    assert len(calls) == 1 + 10
    assert found.keys() == {"kept", "last"}
    assert found["kept"].sources == tuple("abcdefghij")
    assert (found["kept"].whole, found["kept"].without.tolist()) == (11, [9] + [10] * 9)
    assert (found["last"].whole, found["last"].without.tolist()) == (1, [0] + [1] * 9)


def test_runs_on_different_sources_do_not_mix() -> None:
    run = Replicates(0.5, np.zeros(10), tuple(str(i) for i in range(10)))
    with pytest.raises(ValueError, match="same sources"):
        split_noise([run], [replace(run, sources=tuple(str(i) for i in range(1, 11)))])
    with pytest.raises(ValueError, match="same sources"):
        split_noise([])


def test_the_jackknife_is_right_on_average_for_clustered_recalls() -> None:
    rng = np.random.default_rng(0)
    size = rng.poisson(3, size=(4000, 40)) + 1
    found = rng.binomial(size, rng.beta(4.5, 4.5, size=size.shape))
    recall = found.sum(1) / size.sum(1)
    without = (found.sum(1, keepdims=True) - found) / (size.sum(1, keepdims=True) - size)
    noise = jackknife(without - recall[:, None])
    assert np.sqrt(noise.variance.mean()) == pytest.approx(recall.std(), rel=0.05)
