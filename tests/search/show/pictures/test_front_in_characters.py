"""A front as values, and in characters."""

import io
from typing import Any

import pytest
from in_process import config
from rich.console import Console
from told_trials import trial

from search.judging.choosing import Recommended
from search.judging.front import front
from search.record.outcomes import Baseline, StudyTrial
from search.show.pictures.characters import ROWS, front_in_characters
from search.show.pictures.front import FrontPicture, Limit, front_picture

CONFIG = config()  # guards map50_95, at most .03 lower, and minority_ap50
BEST, SECOND = trial(7, 0.9, 0.5), trial(12, 0.5, 0.7)
TRIALS = [BEST, SECOND, trial(3, 0.5, 0.6), trial(4, 0.7, 0.2, violation=0.17), trial(5, 0, 0, "failed")]
USUAL = Baseline.of([trial(i, 0.3 + i / 10, 0.4) for i in range(3)])


def pictured(trials: list[StudyTrial], baseline: Baseline | None = USUAL) -> FrontPicture:
    found = front(trials, CONFIG.objectives, baseline)
    best = Recommended(BEST, with_margin=True) if BEST in trials else None
    return front_picture(found, best, baseline, CONFIG)


def test_what_a_picture_shows() -> None:
    picture = pictured(TRIALS)
    assert [(point.number, point.group, point.at, point.recommended) for point in picture.points] == [
        (7, "best", (0.9, 0.5), True),
        (12, "best", (0.5, 0.7), False),
        (3, "dominated", (0.5, 0.6), False),
        (4, "infeasible", (0.7, 0.2), False),
    ]
    assert picture.baseline == (pytest.approx(0.4), pytest.approx(0.4))
    assert picture.spread == (pytest.approx(0.1), pytest.approx(0.0, abs=1e-9))
    assert picture.seeds == ((0.3, 0.4), (0.4, 0.4), (0.5, 0.4))
    assert picture.limits == (Limit(1, pytest.approx(0.37), "map50_95 at least 0.370"),)
    assert picture.remarks == ("not shown: 1 failed",)


def drawn(picture: FrontPicture, width: int = 72) -> tuple[list[str], list[str]]:
    lines, words = front_in_characters(picture, width)
    return [line.plain for line in lines], words


def test_every_group_has_a_mark_of_its_own() -> None:
    lines, words = drawn(pictured(TRIALS))
    field = lines[1 : 1 + ROWS]
    assert (lines[0], lines[-1].strip()) == ("map50_95 (up is better)", "minority_recall (right is better)")
    text = "\n".join(line[8:] for line in field)
    assert [text.count(mark) for mark in "R*oxB"] == [1, 1, 1, 1, 1]
    where = {
        mark: next((i, line.index(mark)) for i, line in enumerate(field) if mark in line) for mark in "R*oxB"
    }
    assert where["*"][0] < where["o"][0] < where["R"][0] < where["B"][0] < where["x"][0]  # by map50_95
    assert where["B"][1] < where["*"][1] == where["o"][1] < where["x"][1] < where["R"][1]  # by recall
    assert "R7\n" in text
    assert "*12" in text
    assert words == [
        "R recommended   * front   o dominated   x breaks a guard   B baseline's mean",
        "--- guard: map50_95 at least 0.370",
        "sd of the baseline's seeds: minority_recall ± 0.100, map50_95 ± 0.000",
        "not shown: 1 failed",
    ]


def test_the_guards_line_lies_between_what_keeps_it_and_what_breaks_it() -> None:
    field = drawn(pictured(TRIALS))[0][1 : 1 + ROWS]
    line = next(i for i, row in enumerate(field) if "---" in row)
    above = next(i for i, row in enumerate(field) if "B" in row)
    below = next(i for i, row in enumerate(field) if "x" in row)
    assert above < line < below


def test_axes_say_their_ends() -> None:
    lines, _ = drawn(pictured(TRIALS))
    low, high = 0.2 - 0.04 * 0.5, 0.7 + 0.04 * 0.5  # of map50_95
    assert lines[1].startswith(f" {high:.3f} +")
    assert lines[ROWS].startswith(f" {low:.3f} +")
    assert lines[-2].split() == ["0.380", f"{0.38 + 32 / 63 * 0.54:.3f}", "0.920"]


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_it_is_no_wider_than_the_console(width: int) -> None:
    lines, _ = drawn(pictured(TRIALS), width)
    assert max(map(len, lines)) <= min(width, 72)


def test_a_number_without_room_to_its_right_stands_to_the_left() -> None:
    near = trial(300, 0.9, 0.5)
    lines, _ = drawn(pictured([near, trial(4, 0.3, 0.2)], None))
    assert any(line.endswith("300*") for line in lines)


def test_marks_behind_others_are_counted() -> None:
    _, words = drawn(pictured([BEST, trial(8, 0.9, 0.5), trial(9, 0.9, 0.4999)]))
    assert words[-1] == "2 marks lie behind others"


def test_one_point_and_none_are_no_error() -> None:
    assert drawn(pictured([BEST], None))[1][0] == "R recommended"
    assert drawn(pictured([], None)) == ([], ["nothing is measured yet, so there is no front to draw"])


@pytest.mark.parametrize("terminal", [True, False])
def test_colour_is_for_terminals_alone(terminal: bool) -> None:
    colours: Any = "standard" if terminal else "auto"
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=colours)
    for line in front_in_characters(pictured(TRIALS), 80)[0]:
        console.print(line)
    assert isinstance(console.file, io.StringIO)
    assert ("\x1b[" in console.file.getvalue()) == terminal
