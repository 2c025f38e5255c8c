"""The arms that `rarecall compare` knows: their names, each task's own, and which have equal exposure. Pure.

An arm is a named strategy, or one that only the data's counts complete (`MATCHED`). To add one: a line of
`NAMED` and one of `SENTENCES`, and in `contract.tasks` its name in `unfit` of a task that cannot use it, and
in `arms` of a task for which it is to run unasked.
"""

from collections.abc import Collection, Sequence

from search.request.config_errors import no_such_strategy
from spaces.errors import UsageError
from spaces.strategy import NAMED, SENTENCES, Strategy
from trainables.contract.tasks import TASKS, Task
from trainables.strategy.sampling import ClassSets, matched_power

# A weighted sampler -> the undersampling whose exposure it has: what differs is diversity, not exposure.
MATCHED = {f"weighted_as_{name}": name for name in ("undersampled_30", "undersampled_40", "undersampled_50")}


def known_arms(task: Task) -> tuple[str, ...]:
    """Every arm that a study of this task may name: it has the knobs and can use them."""
    lacking = {name for name in NAMED if not NAMED[name].changed().keys().isdisjoint(TASKS[task].lacks)}
    return tuple(name for name in (*NAMED, *MATCHED) if name not in lacking and name not in TASKS[task].unfit)


def sentence(name: str) -> str:
    """What one of `known_arms` is."""
    if name in NAMED:
        return SENTENCES[name]
    return f"A weighted sampler that shows the minority as often as {MATCHED[name]}: only diversity differs."


def named_strategy(name: str, classes: ClassSets, minority: Collection[int]) -> Strategy:
    """The strategy that an arm's name stands for on these data.

    Args:
        name: One of `known_arms`.
        classes: Class ids in each training image.
        minority: Class ids of the minority.

    Raises:
        UsageError: There is no such arm, or these data allow no such sampler.
    """
    if name in NAMED:
        return NAMED[name]
    if name not in MATCHED:
        raise UsageError(no_such_strategy(name, (*NAMED, *MATCHED)))
    sampling = NAMED[MATCHED[name]].sampling
    try:
        power = matched_power(
            classes,
            minority,
            retention=sampling.retention,
            repeat_threshold=sampling.repeat_threshold,
            max_repeat=sampling.max_repeat,
        )
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", error.hint) from None
    return Strategy.from_knobs({"sampler_power": power, "max_repeat": sampling.max_repeat})


def matched_pairs(arms: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Those of `arms` that have equal exposure: the undersampling, then the weighted sampler."""
    return tuple((name, matched) for matched, name in MATCHED.items() if {name, matched} <= set(arms))
