"""The arms that `rarecall compare` knows: their names, each task's own, and which have equal exposure. Pure.

An arm is a named strategy, or one that only the data's counts complete (`MATCHED`). To add one: a line of
`NAMED` and one of `SENTENCES`, and in `contract.tasks` its name in `unfit` of a task that cannot use it, and
in `arms` of a task for which it is to run unasked.
"""

from collections.abc import Callable, Collection, Sequence

from search.request.config_errors import no_such_strategy
from spaces.errors import UsageError
from spaces.strategy import NAMED, SENTENCES, Strategy
from trainables.contract.tasks import TASKS, Task
from trainables.strategy.sampling import ClassSets, matched_power

# A weighted sampler -> the arm whose exposure it has. An undersampling differs from it in diversity alone;
# copies differ in where the minority is augmented: here on tiles, anew at each draw or in as many fixed ways.
MATCHED = {
    **{f"weighted_as_{name}": name for name in ("undersampled_30", "undersampled_40", "undersampled_50")},
    "augmented_as_pretile_3": "pretile_3",
    "augmented_frozen_as_pretile_3": "pretile_3",
}
# More pairs of equal exposure. With those of MATCHED the augmented ones tell apart where (before or after the
# cut, each with draws alike) and how diverse (fixed or fresh draws, each at the same place).
ALIKE = (
    ("pretile_3", "pretile_fresh_3"),
    ("pretile_fresh_3", "augmented_as_pretile_3"),
    ("augmented_frozen_as_pretile_3", "augmented_as_pretile_3"),
)
# Matched arm -> the arm whose knobs it has beside the sampler's.
ALSO = {
    "augmented_as_pretile_3": "minority_augmented",
    "augmented_frozen_as_pretile_3": "augmented_frozen_3",
}


def known_arms(task: Task) -> tuple[str, ...]:
    """Every arm that a study of this task may name: it has the knobs and can use them."""
    lacking = {name for name in NAMED if not NAMED[name].changed().keys().isdisjoint(TASKS[task].lacks)}
    lacking |= {name for name, other in MATCHED.items() if not lacking.isdisjoint({other, ALSO.get(name)})}
    return tuple(name for name in (*NAMED, *MATCHED) if name not in lacking and name not in TASKS[task].unfit)


def needs_whole_images(name: str) -> bool:
    """Whether an arm copies whole images, or has the exposure of one that does."""
    return NAMED[MATCHED.get(name, name)].augmentation.pretile_copies > 0


def sentence(name: str) -> str:
    """What one of `known_arms` is."""
    if name in NAMED:
        return SENTENCES[name]
    if name in ALSO:
        return f"{ALSO[name]}, by a weighted sampler that shows the minority as often as {MATCHED[name]}."
    return f"A weighted sampler that shows the minority as often as {MATCHED[name]}: only diversity differs."


def named_strategy(
    name: str,
    classes: ClassSets,
    minority: Collection[int],
    copied: Callable[[Strategy], ClassSets] = lambda strategy: (),
) -> Strategy:
    """The strategy that an arm's name stands for on these data.

    Args:
        name: One of `known_arms`.
        classes: Class ids in each training image.
        minority: Class ids of the minority.
        copied: Class ids in each image that a strategy's copies add to the training images.

    Raises:
        UsageError: There is no such arm, or these data allow no such sampler.
    """
    if name in NAMED:
        return NAMED[name]
    if name not in MATCHED:
        raise UsageError(no_such_strategy(name, (*NAMED, *MATCHED)))
    other = NAMED[MATCHED[name]]
    sampling = other.sampling
    try:
        power = matched_power(
            classes,
            minority,
            retention=sampling.retention,
            repeat_threshold=sampling.repeat_threshold,
            max_repeat=sampling.max_repeat,
            copied=copied(other),
        )
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", error.hint) from None
    also = NAMED[ALSO[name]].changed() if name in ALSO else {}
    return Strategy.from_knobs({**also, "sampler_power": power, "max_repeat": sampling.max_repeat})


def matched_pairs(arms: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Those of `arms` that have equal exposure, in pairs."""
    pairs = (*((name, matched) for matched, name in MATCHED.items()), *ALIKE)
    return tuple(pair for pair in pairs if set(pair) <= set(arms))
