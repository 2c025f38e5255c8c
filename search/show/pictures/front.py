"""What a picture of a front shows, in characters or drawn. Values only: neither knows the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from search.judging.choosing import Recommended
from search.judging.front import Front
from search.record.outcomes import Baseline, StudyTrial
from search.request.config import StudyConfig
from search.request.guards import Floor, MaxDrop
from search.show.common import in_words
from trainables.contract.tasks import LOWER_IS_BETTER
from trainables.contract.trial import valued

Group = Literal["best", "dominated", "infeasible"]


@dataclass(frozen=True)
class FrontPoint:
    """A finished trial.

    Attributes:
        number: Of the trial.
        group: That it is in.
        at: Its two objectives.
        strategy: In words.
        recommended: Whether it is the trial to take.
    """

    number: int
    group: Group
    at: tuple[float, float]
    strategy: str
    recommended: bool = False


@dataclass(frozen=True)
class Limit:
    """What a guard on an objective asks for, as a line across the picture.

    Attributes:
        axis: 0 or 1, the objective that it is on.
        value: That may not be undercut.
        words: That say so.
    """

    axis: int
    value: float
    words: str


@dataclass(frozen=True)
class FrontPicture:
    """What a picture of a front shows.

    Attributes:
        name: Of the study.
        objectives: The horizontal one and the vertical one; of both more is better.
        points: Those of the front first, by falling first objective.
        baseline: Mean of the baseline's seeds; None before it is measured.
        seeds: Each of them.
        spread: Their sample standard deviations; None with fewer than two.
        limits: Of guards on the objectives.
        remarks: What cannot be drawn: guards on other metrics, trials without a result.
    """

    name: str
    objectives: tuple[str, str]
    points: tuple[FrontPoint, ...]
    baseline: tuple[float, float] | None
    seeds: tuple[tuple[float, float], ...]
    spread: tuple[float, float] | None
    limits: tuple[Limit, ...]
    remarks: tuple[str, ...]


def front_picture(
    found: Front, best: Recommended | None, baseline: Baseline | None, config: StudyConfig
) -> FrontPicture:
    """What to draw of a front."""
    chosen = None if best is None else best.trial.number
    limits, others = _limits(baseline, config)
    return FrontPicture(
        name=config.name,
        objectives=config.objectives,
        points=tuple(
            FrontPoint(
                trial.number, group, _at(trial, config), in_words(trial.strategy), trial.number == chosen
            )
            for group in get_args(Group)
            for trial in getattr(found, group)
        ),
        baseline=None if baseline is None else _two(baseline.metrics, config),
        seeds=() if baseline is None else _each(baseline, config),
        spread=None if baseline is None else _two(baseline.sd, config),
        limits=limits,
        remarks=(*others, *_without_result(found)),
    )


def _at(trial: StudyTrial, config: StudyConfig) -> tuple[float, float]:
    first, second = config.objectives
    return trial.value(first), trial.value(second)


def _two(metrics: dict[str, float | None], config: StudyConfig) -> tuple[float, float] | None:
    first, second = (metrics.get(name) for name in config.objectives)
    return None if first is None or second is None else (first, second)


def _each(baseline: Baseline, config: StudyConfig) -> tuple[tuple[float, float], ...]:
    found = (_two(report.metrics, config) for report in baseline.reports)
    return tuple(one for one in found if one is not None)


def _limits(baseline: Baseline | None, config: StudyConfig) -> tuple[tuple[Limit, ...], list[str]]:
    """The guards that are lines in the picture, and those that are on other metrics, in words."""
    limits, others = [], []
    for guard in config.guards:
        usual = None if baseline is None else valued(baseline.metrics, guard.metric)
        value = _least(guard, usual)
        if value is None:
            continue
        side = "at most" if guard.metric in LOWER_IS_BETTER else "at least"
        words = f"{guard.metric} {side} {value:.3f}"
        if guard.metric in config.objectives:
            limits.append(Limit(config.objectives.index(guard.metric), value, words))
        else:
            others.append(f"guarded, too: {words}")
    return tuple(limits), others


def _least(guard: MaxDrop | Floor, usual: float | None) -> float | None:
    """The value that a guard allows and nothing beyond; None while the baseline's is not known."""
    if isinstance(guard, Floor):
        return guard.floor
    if usual is None:
        return None
    return usual + guard.max_drop if guard.metric in LOWER_IS_BETTER else usual - guard.max_drop


def _without_result(found: Front) -> Sequence[str]:
    counts = {"stopped": len(found.stopped), "running": len(found.running), "failed": len(found.failed)}
    return [f"not shown: {count} {state}" for state, count in counts.items() if count]
