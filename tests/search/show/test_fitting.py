"""What fits a narrow terminal: every number and word is there, whole, and no line is too long."""

import io
import re

import pytest
from compared_arms import LIFTED, USUAL, compared
from compared_arms import arm as compared_arm
from judged_arms import CONFIG, arm, plan
from rich.console import Console
from rich.table import Table
from told_trials import trial

from search.judging.confirmation import Confirmation
from search.judging.front import front
from search.judging.judge import judge
from search.record.experiments import BASELINE_ARM
from search.record.outcomes import Baseline
from search.show.arms import arms_table
from search.show.comparison import as_table
from search.show.confirmation import HEADS, verdict_table
from search.show.fitting import say, show
from search.show.front import pareto_table

OBJECTIVES = ("minority_recall", "map50_95")
CELL = r"[^\s_/,()]+[_/]*"


def verdicts() -> Table:
    known = {BASELINE_ARM: arm(BASELINE_ARM, 0.4, seeds=10), "weighted": arm("weighted", 0.7)}
    look = judge(CONFIG, (), plan("weighted"), 1, known, None)
    return verdict_table(Confirmation("confirm/1", plan("weighted"), (look,)))


def pareto() -> Table:
    usual = Baseline.of([trial(i, 0.31 + i / 100, 0.4 + i / 50) for i in range(2)])
    trials = [trial(2, 0.567, 0.4), trial(30, 0.489, 0.3, violation=0.1), trial(31, 0, 0, "failed")]
    return pareto_table(front(trials, OBJECTIVES, usual), usual, CONFIG, everything=True)


def comparison() -> Table:
    return as_table(compared(compared_arm("plain", USUAL), compared_arm("lifted", LIFTED)))


TABLES = {
    "pareto": (pareto, 0),
    "confirm": (verdicts, HEADS),
    "compare": (comparison, 0),
    "strategies": (lambda: arms_table(["detection", "classification"]), 0),
}


def shown(name: str, width: int) -> str:
    build, heads = TABLES[name]
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=True)
    show(console, build(), heads)
    return console.export_text()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140])
@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_cut_off_or_broken_at_any_width(name: str, width: int) -> None:
    said = shown(name, width)
    longest = max(len(line.rstrip()) for line in said.splitlines())
    build, _ = TABLES[name]
    cells = [str(cell) for column in build().columns for cell in column.cells]
    pieces = {piece for cell in cells for piece in re.findall(CELL, cell)}
    longest_word = max(map(len, " ".join(cells).split()))
    assert longest <= max(width, longest_word + 4)
    assert not {piece for piece in pieces if piece not in said}
    assert "…" not in said


def test_a_wide_console_has_the_table_as_it_is() -> None:
    assert "│ trial ┃".replace("│", "┃") in shown("pareto", 140)
    assert "0.315 ± 0.007 │" in shown("pareto", 140)


def test_in_a_narrow_one_a_value_and_its_change_take_two_lines() -> None:
    lines = shown("pareto", 60).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["minority_", "map50_", "minority_"],
        ["trial", "recall", "95", "ap50", "exposure", "group"],
    ]
    values = next(i for i, line in enumerate(lines) if "0.567" in line)
    assert lines[values].split()[:2] == ["2", "0.567"]
    assert lines[values + 1].split()[0] == "+0.252"


def test_in_a_very_narrow_one_a_trial_is_a_few_lines_and_items_stay_whole() -> None:
    assert "trial 2\n  minority_recall 0.567 +0.252,\n" in re.sub(r" +\n", "\n", shown("pareto", 34))


def test_a_candidate_heads_its_requirements() -> None:
    lines = [line.rstrip() for line in shown("confirm", 80).splitlines()]
    assert "weighted, accepted, 5 v 10" in lines
    assert sum("weighted" in line for line in lines) == 1
    row = next(line for line in lines if line.startswith("minority_recall"))
    assert row.split()[1:4] == ["0.400", "0.700", "+0.300"]


def said(line: str, width: int, *, terminal: bool) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=terminal)
    say(console, line)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_sentence_is_wrapped_between_words_on_a_terminal_alone() -> None:
    line = "   11  retention 0.40, augment_minority 0.50"
    assert said(line, 30, terminal=True) == [
        "   11  retention 0.40,",
        "       augment_minority 0.50",
    ]
    assert said(line, 30, terminal=False) == [line]


def test_a_command_stays_in_one_piece() -> None:
    command = "rarecall confirm runs/a_study_with_a_name --fresh --one-look"
    assert said(f"+5 seeds would decide it: {command}", 40, terminal=True) == [
        "+5 seeds would decide it:",
        f"    {command}",
    ]


def test_what_looks_like_markup_is_text() -> None:
    assert said("no class [bold]", 40, terminal=False) == ["no class [bold]"]
