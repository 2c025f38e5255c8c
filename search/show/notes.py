"""What is wrong with trials, each kind of thing said once. Builds sentences; only `cli` prints."""

import re
from collections.abc import Sequence
from itertools import groupby

from search.judging.diagnostics import Diagnosis
from search.judging.diagnostics import lines as diagnoses

MOST_VARIANTS = 3  # of one kind of note; more would not be read
LEAST_RUN = 3  # `4-6`, but `4, 5`
_NUMBERS = re.compile(r"[-+±]*\d+(\.\d+)?")


def notes_on_trials(told: Sequence[tuple[int, Sequence[Diagnosis]]]) -> tuple[list[str], list[str]]:
    """A line per kind of note, with the trials that have it; its numbers are those of the first of them.

    Args:
        told: Number and notes of each trial, in the order in which they are shown.

    Returns:
        The lines, and what is said of every trial in the same words.
    """
    said = {number: dict(zip(diagnoses(notes), notes, strict=True)) for number, notes in told}
    everywhere = list(next(iter(said.values()), {}))
    shared = [line for line in everywhere if all(line in of for of in said.values())]
    groups: dict[str, dict[str, dict[int, str]]] = {}  # kind -> its words -> trial -> line
    for number, lines in said.items():
        for line, note in lines.items():
            if line not in shared:
                words = groups.setdefault(note.name, {}).setdefault(_NUMBERS.sub("#", line), {})
                words[number] = line
    found = []
    for variants in groups.values():
        few = list(variants.values())
        if len(few) > MOST_VARIANTS:
            few = [{number: line for words in reversed(few) for number, line in words.items()}]
        found += [_line(words, list(said)) for words in few]
    return found, shared


def _line(told: dict[int, str], order: Sequence[int]) -> str:
    """`note on trials 0-2, 7: …`; where they differ in their numbers it says whose these are."""
    first = next(number for number in order if number in told)
    if len(told) == 1:
        return f"note on trial {first}: {told[first]}"
    name, _, sentence = told[first].partition(": ")
    whose = "" if len(set(told.values())) == 1 else f"; of trial {first}"
    return f"note on trials {listed(list(told))}: {name}{whose}: {sentence}"


def listed(numbers: Sequence[int]) -> str:
    """Numbers, rising, runs in short.

    Example:
        >>> listed([7, 0, 2, 1, 4])
        '0-2, 4, 7'
    """
    ordered = sorted(numbers)
    runs = groupby(enumerate(ordered), key=lambda one: one[1] - one[0])
    said: list[str] = []
    for _, run in runs:
        members = [number for _, number in run]
        if len(members) < LEAST_RUN:
            said += map(str, members)
        else:
            said.append(f"{members[0]}-{members[-1]}")
    return ", ".join(said)
