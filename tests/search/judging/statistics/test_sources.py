from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from search.judging.statistics.bounds import Floats, welch
from search.judging.statistics.jackknife import (
    GROUPS,
    MOST_SOURCES,
    Bools,
    Replicates,
    TooFewSources,
    UnmeasurableWithout,
    effective_number,
    groups_of,
    interaction,
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


def test_what_seed_and_source_make_together_by_hand() -> None:
    # Each seed's own jackknife variance is 3/4 * 2 * .01², and that of their mean is 0.
    seeds = np.array([[0.01, -0.01, 0.0, 0.0], [-0.01, 0.01, 0.0, 0.0]])
    assert interaction(seeds) == pytest.approx(0.75 * 2e-4 / (2 - 1))
    assert interaction(seeds[:1]) == 0


def test_it_is_the_mean_of_the_own_variances_less_that_of_the_mean_over_one_seed_fewer() -> None:
    seeds = np.random.default_rng(0).normal(size=(3, 5, 12))  # (studies, seeds, sources)
    own, of_mean = jackknife(seeds).variance.mean(axis=1), jackknife(seeds.mean(axis=1)).variance
    assert interaction(seeds) == pytest.approx((own - of_mean) / 4)


def test_each_arm_shares_its_own_with_the_seeds_and_without_it_the_split_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    sources = tuple(str(i) for i in range(12))
    candidate = [Replicates(0.5, 0.5 + rng.normal(size=12), sources) for _ in range(3)]
    baseline = [Replicates(0.4, 0.4 + rng.normal(size=12) / 4, sources) for _ in range(4)]
    noise = split_noise(candidate, baseline)
    shared = [
        float(interaction(np.array([run.without - run.whole for run in arm])))
        for arm in (candidate, baseline)
    ]
    assert [float(of) for of in noise.shared] == pytest.approx(shared)
    assert noise.alone == pytest.approx(max(float(noise.variance) - sum(shared), 0.0))
    assert [float(of) for of in split_noise(candidate).shared] == pytest.approx([shared[0], 0.0])
    assert jackknife(rng.normal(size=12)).shared == (0, 0)


def test_counted_once_the_error_is_that_of_fresh_seeds_and_fresh_sources() -> None:
    n, sources, sd = 4000, 40, 0.3
    rng = np.random.default_rng(0)

    def arm(seeds: int) -> Floats:
        """(n, seeds, sources): what each seed finds in each source."""
        return 0.06 * rng.normal(size=(n, seeds, 1)) + sd * rng.normal(size=(n, seeds, sources))

    of_source = 0.1 * rng.normal(size=(n, 1, sources))
    candidate, baseline = arm(5) + of_source, arm(10)
    own, usual = ((one.mean(axis=2, keepdims=True) - one) / (sources - 1) for one in (candidate, baseline))
    split = jackknife(own.mean(axis=1) - usual.mean(axis=1))
    means = candidate.mean(axis=2), baseline.mean(axis=2)
    once = welch(*means, split.part, shared=(interaction(own), interaction(usual)))
    assert once.variance.mean() == pytest.approx(once.value.var(), rel=0.05)
    assert welch(*means, split.part).variance.mean() > 1.2 * once.value.var()


@pytest.mark.parametrize(
    ("counts", "number"),
    [
        pytest.param([3, 3, 3, 3], 4.0, id="equal ones"),
        pytest.param([3, 0, 3, 0], 2.0, id="half of them without an object"),
        pytest.param([5, 5, 10], 1 / (1 / 16 + 1 / 16 + 1 / 4), id="one with half of all"),
        pytest.param([0, 7, 0], 1.0, id="one with all"),
        pytest.param([0, 0, 0], 0.0, id="no object at all"),
    ],
)
def test_as_many_sources_of_equal_size_would_weigh_alike(counts: list[int], number: float) -> None:
    assert effective_number(np.array(counts)) == pytest.approx(number)


@pytest.mark.parametrize(
    ("effective", "df"),
    [
        pytest.param(3.5, 2.5, id="a few large sources"),
        pytest.param(40.0, 9.0, id="no more than the sources that change anything"),
        pytest.param(1.0, 0.25, id="one that holds all still has a number"),
    ],
)
def test_degrees_of_freedom_are_at_most_those_of_the_effective_sources(effective: float, df: float) -> None:
    runs = [Replicates(0.5, 0.5 + 0.01 * np.arange(1, 11), tuple("abcdefghij"), effective)]
    assert split_noise(runs).df == df


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


def named(n: int) -> list[str]:
    return [f"s{i:04}" for i in range(n)]


def test_up_to_900_sources_are_left_out_one_by_one_and_more_in_300_groups() -> None:
    np.testing.assert_array_equal(groups_of(named(MOST_SOURCES)), np.arange(MOST_SOURCES))
    sizes = np.bincount(groups_of(named(10 * GROUPS + 7)))
    assert np.bincount(sizes).tolist() == [0] * 10 + [GROUPS - 7, 7]
    values = np.random.default_rng(0).normal(size=MOST_SOURCES + 1)
    calls = [mean_over(values[: MOST_SOURCES + more], named(MOST_SOURCES + more)).without for more in (0, 1)]
    assert [len(without) for without in calls] == [MOST_SOURCES, GROUPS]


def test_groups_hold_whole_sources_and_do_not_depend_on_the_order_of_the_images() -> None:
    sources = np.repeat(named(1500), 3)
    group = groups_of(sources)
    assert all(len(set(group[sources == name])) == 1 for name in named(1500)[:20])
    mixed = np.random.default_rng(0).permutation(len(sources))
    np.testing.assert_array_equal(groups_of(sources[mixed]), group[mixed])


def test_groups_say_the_same_of_a_mean_as_sources_to_within_their_own_error() -> None:
    values = np.random.default_rng(0).normal(size=3000)
    noise = split_noise([mean_over(values, named(3000))])
    assert noise.df == GROUPS - 1
    # A variance with 299 degrees of freedom has a relative sd of sqrt(2 / 299), .08.
    assert noise.variance == pytest.approx(stats.sem(values) ** 2, rel=0.25)


def test_a_metric_that_hangs_on_one_group_says_that_it_is_one() -> None:
    sources = named(MOST_SOURCES + 1)
    with pytest.raises(UnmeasurableWithout, match=r"without group \d+ of its 300 random groups of sources"):
        leave_one_source_out(lambda keep: {"recall": 0.5 if keep[3] else None}, sources, ["recall"])


@pytest.mark.parametrize(
    "holding",
    [pytest.param(1.0, id="objects everywhere"), pytest.param(0.03, id="objects in one source of thirty")],
)
def test_with_groups_and_their_degrees_of_freedom_a_bound_keeps_its_level(holding: float) -> None:
    """2,000 test splits of 1,500 sources, each with objects of its own ease; the true recall is .5."""
    n, sources = 2000, 1500
    rng = np.random.default_rng(0)
    size = rng.geometric(0.4, (n, sources)) * (rng.random((n, sources)) < holding)
    found = rng.binomial(size, rng.beta(2, 2, size.shape))
    recall = found.sum(1) / size.sum(1)
    to_group = np.eye(GROUPS)[groups_of(named(sources))]  # (sources, GROUPS)
    sizes, hits = size @ to_group, found @ to_group
    without = (hits.sum(1, keepdims=True) - hits) / (sizes.sum(1, keepdims=True) - sizes)
    noise = jackknife(without - recall[:, None], effective_number(sizes))
    assert np.sqrt(noise.variance.mean()) == pytest.approx(recall.std(), rel=0.05)
    above = recall - stats.t.isf(0.05, noise.df) * np.sqrt(noise.variance) > 0.5
    assert above.mean() == pytest.approx(0.05, abs=0.015)  # three standard errors
