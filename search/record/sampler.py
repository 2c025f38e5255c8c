"""Who proposes the next trial. Knows Optuna's samplers, and nothing of a study's record."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.request.config import SamplerName
from spaces.strategy import SearchSpace, Strategy

GP_SHARE = 0.05  # `auto` leaves the Gaussian process when one ask costs more than this share of a trial
GP_LEAST_SECONDS = 0.5  # an ask of the Gaussian process never costs less, so short trials do not even try it


def auto(ask_seconds: Sequence[float], trial_seconds: Sequence[float]) -> SamplerName:
    """What `auto` stands for: the Gaussian process while it is cheap beside a trial, then TPE.

    Args:
        ask_seconds: What each ask of the Gaussian process has taken so far.
        trial_seconds: What each trial has taken so far.
    """
    if not trial_seconds:
        return "tpe"  # every sampler is still in its random start
    affordable = GP_SHARE * statistics.median(trial_seconds)
    # The first ask also loads torch; the smaller of the last two is what an ask costs.
    cost = min(ask_seconds[-2:]) if len(ask_seconds) > 1 else GP_LEAST_SECONDS
    return "gp" if cost <= affordable else "tpe"


def make_sampler(name: SamplerName, study_seed: int, number: int) -> BaseSampler:
    """A sampler whose generator depends on (study seed, trial number) alone."""
    seed = int(np.random.SeedSequence((study_seed, number)).generate_state(1)[0])
    makers: dict[str, Callable[[], BaseSampler]] = {
        "gp": lambda: GPSampler(seed=seed),
        "tpe": lambda: TPESampler(seed=seed),
        "nsga2": lambda: NSGAIISampler(seed=seed),
        "random": lambda: RandomSampler(seed=seed),
    }
    return makers[name]()


def drawn(space: SearchSpace, count: int) -> list[Strategy]:
    """So many strategies from anywhere in a space; each time the same."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=make_sampler("random", 0, 0))
    return [space.suggest(study.ask()) for _ in range(count)]


def known_point(
    space: SearchSpace,
    point: dict[str, float],
    values: Sequence[float],
    constraints: Mapping[str, float],
    marked: str,
) -> FrozenTrial:
    """A completed trial at a point of the space that no sampler has asked for.

    Args:
        space: Whose distributions it has.
        point: A value for each of its dimensions.
        values: Of the objectives.
        constraints: Guarded metric -> violation.
        marked: A user attribute that is set to True.
    """
    captured = _Capture(point)
    space.suggest(captured)
    return optuna.create_trial(
        values=values,
        params=captured.params,
        distributions=captured.distributions,
        constraints=dict(constraints),
        user_attrs={marked: True},
    )


def again(failed: FrozenTrial, attrs: dict[str, Any]) -> FrozenTrial:
    """A running trial at the point of one that has failed, with these user attributes."""
    return optuna.create_trial(
        state=TrialState.RUNNING,
        params=failed.params,
        distributions=failed.distributions,
        user_attrs=attrs,
    )


class _Capture:
    """Stands in for an Optuna trial: answers with fixed values and keeps the distributions asked for."""

    def __init__(self, point: dict[str, float]) -> None:
        self.point = point
        self.params: dict[str, float] = {}
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.distributions[name] = optuna.distributions.FloatDistribution(low, high, log=log)
        return self._answer(name)

    def suggest_categorical(self, name: str, choices: tuple[float, ...]) -> float:
        self.distributions[name] = optuna.distributions.CategoricalDistribution(choices)
        return self._answer(name)

    def _answer(self, name: str) -> float:
        self.params[name] = self.point[name]
        return self.point[name]
