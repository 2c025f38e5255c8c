"""The simulated studies that the verdict's error rates are counted on are what they say."""

import subprocess
import sys

import numpy as np
import pytest
from places import ROOT

from benchmarks.real_like_studies import Cell, draw


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of found or missed over single objects."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each source of one object, so that a count is found or missed: sizes, baseline, candidate."""
    cell = Cell(objects=200, sources=3000, spread=0.5, between_seeds=0.55)
    found = draw(np.random.default_rng(0), cell, 100, gains=[0.05], seeds=2, baseline_seeds=2)
    single = found.size == 1
    return found.size, found.baseline[:, single], found.candidates[0][:, single]


def test_recalls_and_their_gain_are_the_true_ones(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    size, baseline, candidate = drawn
    assert (size.sum(axis=1) == 200).all()
    assert baseline.mean() == pytest.approx(0.4, abs=0.01)
    assert candidate.mean() == pytest.approx(0.45, abs=0.01)


def test_found_or_missed_correlates_as_wanted(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, baseline, candidate = drawn
    assert agreement(*baseline) == pytest.approx(0.55, abs=0.03)
    assert agreement(baseline[0], candidate[0]) == pytest.approx(0.3, abs=0.03)


@pytest.mark.slow
def test_the_benchmark_runs_and_its_chosen_rule_errs_as_stated() -> None:
    command = [sys.executable, "-m", "benchmarks.two_way", "--quick"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (largest,) = (line for line in shown.splitlines() if line.startswith("| counted once, capped | "))
    rates = [float(column.split()[0]) for column in largest.strip("| ").split(" | ")[1:]]
    assert len(rates) == 6
    assert max(rates) < 0.065  # 2,000 studies: .055 and two standard errors
