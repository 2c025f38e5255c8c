"""The strategies that have a name, as a table and as plain values. Builds them; only `cli` prints."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from search.request.arms import ALSO, MATCHED, known_arms, sentence
from search.show.common import in_words
from spaces.strategy import NAMED
from trainables.contract.tasks import TASKS, Task

UNASKED = "*"  # on a task whose comparisons have the strategy if the study file names none


def arms_table(tasks: Sequence[Task]) -> Table:
    """A row per strategy that one of the tasks may name: what it is, and below that the knobs it changes."""
    caption = f"{UNASKED} `rarecall compare` runs it unasked, where the study file names no strategies"
    table = Table(title="strategies by name", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("strategy", no_wrap=True)
    table.add_column("for", no_wrap=True)
    table.add_column("what it is, and its knobs")
    for name, of in _tasks(tasks).items():
        uses = [f"{task} {UNASKED}" if name in TASKS[task].arms else task for task in of]
        table.add_row(name, "\n".join(uses), f"{sentence(name)}\n{_knobs(name)}", end_section=True)
    return table


def arms_json(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The same as plain values; the data's counts complete a strategy that has an `exposure_of` another."""
    return [
        {
            "name": name,
            "what": sentence(name),
            "knobs": NAMED[name].changed() if name in NAMED else None,
            "exposure_of": MATCHED.get(name),
            "tasks": of,
            "unasked": [task for task in of if name in TASKS[task].arms],
        }
        for name, of in _tasks(tasks).items()
    ]


def _tasks(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    """Strategy -> those of the tasks that may name it; without strategies that none of them may."""
    of = {name: [task for task in tasks if name in known_arms(task)] for name in (*NAMED, *MATCHED)}
    return {name: found for name, found in of.items() if found}


def _knobs(name: str) -> str:
    if name in NAMED:
        return in_words(NAMED[name])
    also = f"{in_words(NAMED[ALSO[name]])}, " if name in ALSO else ""
    return f"{also}sampler_power at the exposure of {MATCHED[name]}"
