"""Notes are said once, with the trials that they are of."""

import pytest

from search.judging.diagnostics import Diagnosis
from search.show.notes import listed, notes_on_trials


def differs(by: float) -> Diagnosis:
    return Diagnosis("deployed differs", by, f"the exported weights find {0.5 + by:.3f} ({by:+.3f})")


COLLAPSE = Diagnosis("minority collapse", 0.0, "1 of 1 trained models never found the minority: recall 0")
SUPPORT = Diagnosis("support too small", 0.09, "the val split holds 89 minority objects")


def test_thirty_trials_with_one_note_each_are_one_line() -> None:
    own, shared = notes_on_trials([(number, [differs(number / 100)]) for number in range(30)])
    assert own == [
        "note on trials 0-29: deployed differs; of trial 0: the exported weights find 0.500 (+0.000)"
    ]
    assert shared == []


def test_equal_notes_are_one_line_without_an_example() -> None:
    own, _ = notes_on_trials([(11, []), (3, [COLLAPSE]), (7, [COLLAPSE])])
    assert own == [f"note on trials 3, 7: minority collapse: {COLLAPSE.sentence}"]


def test_the_example_is_the_trial_that_is_shown_first() -> None:
    own, _ = notes_on_trials([(11, [differs(0.1)]), (2, [differs(0.2)])])
    assert own[0].startswith(
        "note on trials 2, 11: deployed differs; of trial 11: the exported weights find 0.600"
    )


def test_what_is_said_of_all_is_told_apart() -> None:
    own, shared = notes_on_trials([(0, [SUPPORT, COLLAPSE]), (1, [SUPPORT])])
    assert own == [f"note on trial 0: minority collapse: {COLLAPSE.sentence}"]
    assert shared == [f"support too small: {SUPPORT.sentence}"]


@pytest.mark.parametrize(("variants", "lines"), [(2, 2), (3, 3), (4, 1)])
def test_a_kind_in_many_words_becomes_one_line(variants: int, lines: int) -> None:
    words = ["the sampler", "class weights", "logit adjustment", "repeat factors"]
    told = [
        (number, [Diagnosis("reweighting stacked", 2, f"{words[number % variants]} 0.{number}")])
        for number in range(8)
    ]
    own, _ = notes_on_trials(told)
    assert len(own) == lines
    assert own[0].startswith(f"note on trials {'0-7' if lines == 1 else '0, '}")


def test_without_trials_nothing_is_said() -> None:
    assert notes_on_trials([]) == ([], [])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([3], "3"), ([4, 3], "3, 4"), ([5, 3, 4], "3-5"), ([9, 0, 1, 2, 7], "0-2, 7, 9"), ([], "")],
)
def test_numbers_in_short(numbers: list[int], expected: str) -> None:
    assert listed(numbers) == expected
