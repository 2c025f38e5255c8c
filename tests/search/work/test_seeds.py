"""Which training seed a search's trials have, and why."""

from pathlib import Path

import numpy as np
from in_process import Bench, config

from benchmarks.search_seeds import CELLS, MAX_DROP, picked, simulate


def test_all_trials_are_trained_with_the_baselines_first_seed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 3, "sampler": "random", "seed": 2}))
    bench.run()
    assert [spec.seed for spec in bench.ran[:3]] == [2000, 2001, 2002]
    assert {trial.seed for trial in bench.study.trials()} == {2000}


def test_what_benchmarks_say_of_seeds_and_of_the_margin() -> None:
    common, held, fresh, _ = (
        picked(searches) for _, searches in simulate(CELLS[0], 5000, np.random.default_rng(0))
    )

    def gain(of: tuple[np.ndarray, np.ndarray]) -> float:
        return float(of[0][:, 0].mean())

    def bias(of: tuple[np.ndarray, np.ndarray]) -> float:
        return float((of[1] - of[0])[:, 0].mean())

    def broken(of: tuple[np.ndarray, np.ndarray]) -> float:
        return float((of[0][:, 1] < -MAX_DROP).mean())

    assert gain(common) > gain(fresh) + 0.002  # standard errors are .0009
    assert bias(common) < bias(fresh) - 0.008
    assert broken(common) < broken(fresh)
    assert broken(held) < 0.6 * broken(common)  # with a margin of one sd for the guards
