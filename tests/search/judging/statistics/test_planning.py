import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from gains import MAP, NO_SPLIT_NOISE, RECALL, SPREAD, evidence
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from scipy import stats

from search.judging.statistics.bounds import Floats, welch
from search.judging.statistics.jackknife import (
    Replicates,
    SplitNoise,
    interaction,
    jackknife,
    split_noise,
)
from search.judging.statistics.planning import (
    Noise,
    advise,
    power,
    sd_upper_limit,
    seeds_needed,
    sources_factor,
)
from search.judging.statistics.values import Requirement


def noise(sd: float = 0.03, map_sd: float = 0.0075, split: tuple[float, float] = (0.01, 0.003)) -> Noise:
    correlation = np.array([[1.0, 0.5], [0.5, 1.0]])
    seed = correlation * np.outer([sd, map_sd], [sd, map_sd])
    nothing = np.zeros((2, 2))
    return Noise(seed, seed, np.diag(np.square(split)), np.array([39.0, 39.0]), nothing, nothing)


DISTANCE = np.array([0.07, 0.03])  # a gain of .12 against .05, no drop against .03


def test_the_power_of_one_bound_without_split_noise_is_the_noncentral_ts() -> None:
    seed, nothing = np.array([[0.03**2]]), np.zeros((1, 1))
    alone = Noise(seed, nothing, nothing, np.array([np.inf]), nothing, nothing)
    expected = stats.nct.sf(stats.t.isf(0.05, 4), 4, 0.04 / (0.03 / 5**0.5))
    assert power(np.array([0.04]), alone, 5, 10, 0.05) == pytest.approx(expected, abs=0.005)


def test_planned_power_is_what_simulated_studies_have() -> None:
    n, n_studies, sources = 5, 40_000, 40
    given_noise = noise(sd=0.04, map_sd=0.02)
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(given_noise.candidate)
    passed = np.ones(n_studies, dtype=bool)
    candidate = np.tensordot(root, rng.normal(size=(2, n_studies, n)), axes=1)
    baseline = np.tensordot(root, rng.normal(size=(2, n_studies, 2 * n)), axes=1)
    for k in range(2):
        per_source = rng.normal(scale=(given_noise.split[k, k] * sources) ** 0.5, size=(n_studies, sources))
        mean = per_source.mean(axis=1, keepdims=True)
        split = jackknife((mean - per_source) / (sources - 1))
        passed &= welch(candidate[k] + mean + DISTANCE[k], baseline[k], split.part).p_value(0.0) <= 0.05
    assert power(DISTANCE, given_noise, n, 2 * n, 0.05) == pytest.approx(passed.mean(), abs=0.03)


def test_planned_power_counts_what_seed_and_source_make_together_once() -> None:
    n, n_studies, sources, sd = 5, 20_000, 40, 0.2
    rng = np.random.default_rng(0)

    def arm(seeds: int) -> Floats:
        return 0.02 * rng.normal(size=(n_studies, seeds, 1)) + sd * rng.normal(
            size=(n_studies, seeds, sources)
        )

    of_source = 0.1 * rng.normal(size=(n_studies, 1, sources))
    candidate, baseline = arm(n) + of_source, arm(2 * n)
    own, usual = ((one.mean(axis=2, keepdims=True) - one) / (sources - 1) for one in (candidate, baseline))
    split = jackknife(own.mean(axis=1) - usual.mean(axis=1))
    gain = welch(
        candidate.mean(axis=2) + 0.07,
        baseline.mean(axis=2),
        split.part,
        shared=(interaction(own), interaction(usual)),
    )
    shared = np.array([[sd**2 / sources]])
    seed = 0.02**2 + shared
    planned = Noise(seed, seed, np.array([[0.1**2 / sources]]), np.array([39.0]), shared, shared)
    assert power(np.array([0.07]), planned, n, 2 * n, 0.05) == pytest.approx(
        (gain.p_value(0.0) <= 0.05).mean(), abs=0.02
    )


def test_noise_is_split_into_what_seeds_sources_and_both_make() -> None:
    rng = np.random.default_rng(0)
    sources = tuple(str(i) for i in range(20))

    def runs(n: int) -> list[Replicates]:
        return [Replicates(0.5, 0.5 + 0.004 + 0.002 * rng.normal(size=20), sources) for _ in range(n)]

    split = split_noise(runs(5), runs(10))
    found = Noise.of([evidence(RECALL, 0.1, split), evidence(MAP, 0.0, None)], confidence=None)
    own, usual = (float(of) for of in split.shared)
    assert np.diag(found.candidate_shared) == pytest.approx([5 * own, 0.0])
    assert np.diag(found.baseline_shared) == pytest.approx([10 * usual, 0.0])
    assert found.split[0, 0] == pytest.approx(float(split.alone))
    assert found.without_seeds().candidate_shared.sum() == 0
    tenfold = found.with_sources(10)
    seeds_alone = found.candidate[0, 0] - found.candidate_shared[0, 0]
    assert tenfold.candidate[0, 0] == pytest.approx(seeds_alone + found.candidate_shared[0, 0] / 10)


def test_the_seeds_asked_for_are_the_fewest_that_reach_the_target() -> None:
    n = seeds_needed(DISTANCE, noise(sd=0.05), 0.05)
    assert n is not None
    assert power(DISTANCE, noise(sd=0.05), n, 2 * n, 0.05) >= 0.8
    assert power(DISTANCE, noise(sd=0.05), n - 1, 2 * n - 2, 0.05) < 0.8


@given(sd=st.floats(0.005, 0.1), more=st.floats(0, 0.05))
@settings(max_examples=20)
def test_more_noise_asks_for_no_fewer_seeds(sd: float, more: float) -> None:
    few, many = (seeds_needed(DISTANCE, noise(sd=s, split=(0.0, 0.0)), 0.05) for s in (sd, sd + more))
    assert few is not None
    assert many is None or few <= many


@pytest.mark.parametrize("distance", [1e-6, 0.5, 1e3])
@pytest.mark.parametrize("sd", [1e-9, 0.03, 1e3])
def test_power_is_a_probability_at_any_scale(distance: float, sd: float) -> None:
    value = power(np.array([distance, distance]), noise(sd=sd, map_sd=sd), 5, 10, 0.05)
    assert 0 <= value <= 1
    if distance > 1e5 * sd:
        assert value > 0.79  # the test split is all that is left


def test_the_upper_limit_of_an_sd_covers_the_true_one_as_often_as_stated() -> None:
    samples = np.random.default_rng(0).normal(scale=0.03, size=(20_000, 5)).std(axis=1, ddof=1)
    covered = np.mean([sd_upper_limit(float(sd), df=4, confidence=0.8) >= 0.03 for sd in samples])
    assert covered == pytest.approx(0.8, abs=0.01)


def test_noise_is_estimated_from_the_evidence() -> None:
    split = jackknife(np.random.default_rng(0).normal(scale=0.001, size=20))
    found = Noise.of([evidence(RECALL, 0.1, split), evidence(MAP, 0.0, None)], confidence=None)
    assert found.candidate == pytest.approx(np.full((2, 2), np.var(SPREAD, ddof=1)))
    assert found.split == pytest.approx(np.diag([float(split.variance), 0.0]))
    assert found.split_df.tolist() == [float(split.df), np.inf]
    inflated = Noise.of([evidence(RECALL, 0.1, split)])
    assert inflated.candidate[0, 0] == pytest.approx(sd_upper_limit(float(SPREAD.std(ddof=1)), 4) ** 2)


def test_a_plan_beside_a_baseline_that_collapses_counts_what_it_lends() -> None:
    lent = (np.asarray(0.01), np.asarray(9.0))
    found = Noise.of([replace(evidence(RECALL, 0.1), lent=lent), evidence(MAP, 0.0)], confidence=None)
    assert np.diag(found.candidate) == pytest.approx([0.01, np.var(SPREAD, ddof=1)])


def test_where_lower_is_better_noise_keeps_its_sign() -> None:
    ece = Requirement("ece", -0.03, lower_is_better=True)
    found = Noise.of([evidence(RECALL, 0.1), evidence(ece, 0.0)], confidence=None)
    assert found.candidate[0, 1] == pytest.approx(-np.var(SPREAD, ddof=1))


SPLIT = jackknife(np.random.default_rng(0).normal(scale=0.2, size=40) / 40)


@pytest.mark.parametrize(
    ("gain", "split", "kind"),
    [
        pytest.param(0.10, NO_SPLIT_NOISE, "seeds", id="a gain that the seeds' noise hides"),
        pytest.param(0.10, SPLIT, "labels", id="a gain that the test split cannot resolve"),
        pytest.param(0.06, NO_SPLIT_NOISE, "too_many_seeds", id="a gain that is too small for its noise"),
        pytest.param(0.05, SPLIT, "no_gain", id="an estimate on its margin has nothing to confirm"),
    ],
)
def test_advice(gain: float, split: SplitNoise, kind: str) -> None:
    advice = advise([evidence(RECALL, gain, split, spread=3 * SPREAD)], 0.05)
    assert advice.kind == kind
    assert (advice.candidate_seeds is not None) == (kind == "seeds")
    assert (advice.sources is not None) == (kind == "labels")
    if advice.candidate_seeds is not None:
        assert advice.baseline_seeds == 2 * advice.candidate_seeds
    if advice.sources is not None:
        assert advice.best_power < 0.8 < 1 < advice.sources


def test_so_many_more_sources_would_reach_the_target() -> None:
    factor = sources_factor(DISTANCE, noise(split=(0.05, 0.003)), 0.05)
    assert factor is not None
    enough = noise(split=(0.05, 0.003)).without_seeds().with_sources(factor)
    assert 0.8 <= power(DISTANCE, enough, 2, 2, 0.05) < 0.85
    assert sources_factor(np.array([0.07, 0.0]), noise(), 0.05) is None


@pytest.mark.slow
def test_the_benchmark_runs_and_its_plans_hold() -> None:
    command = [sys.executable, "-m", "benchmarks.verdict", "--quick"]
    root = ROOT
    shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    off = re.search(r"planned power differ by at most ([\d.]+)\.$", shown, re.MULTILINE)
    assert off is not None
    assert float(off[1]) < 0.04
