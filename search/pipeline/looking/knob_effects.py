"""What each knob does by itself, as far as the trials tell: partial dependence of a Gaussian process.

The process is fitted to the finished trials, with noise, as the sampler's own: Matérn 5/2, a length scale for
each knob. The effect of a knob is the mean over the trials of what it expects when that knob alone is set
(Friedman 2001); the band holds that mean with 95 %, so that what is not known looks so.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from search.record.outcomes import StudyTrial
from search.request.config import StudyConfig

LEAST_TRIALS = 8
MOST_TRIALS = 200  # the newest; a fit costs the cube of them
MOST_ROWS = 60  # over which a dependence is averaged
GRID = 21
Z = 1.96

Floats = npt.NDArray[np.float64]


def knob_effects(
    trials: Sequence[StudyTrial], config: StudyConfig, off: dict[str, float]
) -> list[dict[str, Any]]:
    """Knob, metric, grid (GRID,), mean (GRID,), low (GRID,) and high (GRID,); nothing of too few trials.

    Args:
        trials: Of the search.
        config: Of the study.
        off: Value of each knob that a strategy does not change.
    """
    done = [trial for trial in trials if trial.state == "complete" and trial.report is not None][
        -MOST_TRIALS:
    ]
    ends = {knob: dimension.ends() for knob, dimension in config.space.dimensions.items()}
    at = {
        knob: np.array([trial.strategy.changed().get(knob, off[knob]) for trial in done], dtype=float)
        for knob, values in ends.items()
        if min(values) != max(values)
    }
    varied = [knob for knob, values in at.items() if len(values) and np.ptp(values) > 0]
    if len(done) < LEAST_TRIALS or not varied:
        return []
    low, high = (np.array([end(ends[knob]) for knob in varied]) for end in (min, max))
    x = (np.column_stack([at[knob] for knob in varied]) - low) / (high - low)
    found = []
    for metric in config.objectives:
        model = _fitted(x, np.array([trial.value(metric) for trial in done]))
        for k, knob in enumerate(varied):
            mean, sd = _dependence(model, x, k)
            found.append(
                {
                    "knob": knob,
                    "metric": metric,
                    "grid": np.linspace(low[k], high[k], GRID).round(4).tolist(),
                    "mean": mean.round(4).tolist(),
                    "low": (mean - Z * sd).round(4).tolist(),
                    "high": (mean + Z * sd).round(4).tolist(),
                }
            )
    return found


def _fitted(x: Floats, y: Floats) -> GaussianProcessRegressor:
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(np.ones(x.shape[1]), (0.1, 1e2), nu=2.5)
    model = GaussianProcessRegressor(
        kernel + WhiteKernel(0.1, (1e-4, 1.0)), normalize_y=True, n_restarts_optimizer=1, random_state=0
    )
    with warnings.catch_warnings():
        # A length scale at its bound is a knob that does nothing: nothing to warn of.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def _dependence(model: GaussianProcessRegressor, x: Floats, k: int) -> tuple[Floats, Floats]:
    """(GRID,) mean over rows with column k set, and the sd of that mean, without a single trial's noise."""
    rows = x[np.unique(np.linspace(0, len(x) - 1, MOST_ROWS).round().astype(int))]
    means, sds = np.empty(GRID), np.empty(GRID)
    noise = model.kernel_.k2.noise_level * model._y_train_std**2
    for i, value in enumerate(np.linspace(0, 1, GRID)):
        here = rows.copy()
        here[:, k] = value
        mean, covariance = model.predict(here, return_cov=True)
        means[i] = mean.mean()
        sds[i] = np.sqrt(max(0.0, covariance.mean() - noise / len(rows)))
    return means, sds
