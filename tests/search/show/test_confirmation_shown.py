"""What is said of a confirmation: its table, its sentences, its json."""

import json
import shlex

import pytest
from judged_arms import CONFIG, arm, frozen_look, plan, said

from search.cli.main import _parser
from search.judging.confirmation import Asked, Confirmation, SplitUse
from search.judging.judge import judge
from search.record.experiments import BASELINE_ARM
from search.show.confirmation import confirmation_json, ledger_sentence, sentences


def test_every_number_that_decides_is_shown() -> None:
    results = judge(
        CONFIG,
        (),
        plan("weighted"),
        1,
        {BASELINE_ARM: arm(BASELINE_ARM, 0.4, seeds=10), "weighted": arm("weighted", 0.7)},
        None,
    )
    shown = said(Confirmation("confirm/1", plan("weighted"), (results,)))
    bound = results.results[0].verdict.bounds[0]
    row = next(line for line in shown.splitlines() if "minority_recall" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        "weighted",
        "accepted",
        "5 v 10",
        "minority_recall",
        "0.400",
        "0.700",
        "+0.300",
        "≥ +0.050",
        f"≥ {bound.lower:+.3f}",
        "2.50%",
        "",
    ]
    assert "after look 1 of 2" in shown
    assert "weighted (sampler_power 1.00): accepted" in shown
    assert "the point rule (means alone; wrong for half of those on the margin): met" in shown


def test_what_the_exported_weights_do_stands_below_the_verdict() -> None:
    shown = sentences(Confirmation("confirm/1", plan("weighted"), (frozen_look(),)), "runs/toy")
    assert not any("deployed" in line for line in shown)  # an older record
    (result,) = frozen_look().results
    figures = {"deployed/minority_recall": 0.8, "deployed/minority_precision": 0.25}
    known = {"means": result.means | figures, "baseline": {"deployed/minority_recall": 0.5}}
    look = frozen_look().model_copy(update={"results": (result.model_copy(update=known),)})
    shown = sentences(Confirmation("confirm/1", plan("weighted"), (look,)), "runs/toy")
    assert "    deployed, as exported: minority recall 0.500 -> 0.800, precision - -> 0.250" in shown


def test_the_command_that_would_decide_it_can_be_typed() -> None:
    planned = plan("focal", more_seeds=0)
    known = {BASELINE_ARM: arm(BASELINE_ARM, 0.4, seeds=10), "focal": arm("focal", 0.46)}
    look = judge(CONFIG, (), planned, 1, known, None)
    advice = look.results[0].advice
    assert advice is not None
    line = next(
        line
        for line in sentences(Confirmation("confirm/1", planned, (look,)), "runs/toy")
        if "rarecall confirm" in line
    )
    command = shlex.split(line[line.index("rarecall confirm") :])
    args = _parser().parse_args(command[1:])
    assert (args.strategy, args.seeds, args.baseline_seeds) == (
        ["focal"],
        advice.candidate_seeds,
        advice.baseline_seeds,
    )
    assert (args.fresh, args.one_look, str(args.study)) == (True, True, "runs/toy")
    Asked(seeds=args.seeds, baseline_seeds=args.baseline_seeds).settings(CONFIG)  # within the limits


def test_json_is_strict_and_has_what_the_screen_has() -> None:
    look = frozen_look()
    confirmation = Confirmation("confirm/1", plan("weighted"), (look,))
    text = json.dumps(confirmation_json(confirmation, ()), allow_nan=False)
    shown = json.loads(text)
    (candidate,) = shown["candidates"]
    assert candidate["verdict"]["bounds"][1]["df"] is None
    assert candidate["verdict"]["point_rule"] is True
    assert candidate["candidate"]["strategy"]["sampler_power"] == 1.0
    assert shown["accepted"] == ["weighted"]
    assert (shown["finished"], shown["look"], shown["looks"]) == (True, 1, 2)


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        pytest.param([], "the test split has not been used yet", id="never"),
        pytest.param(
            [SplitUse("confirm/1", "2026-11-21T10:00:00+00:00", 3, 20)],
            "the test split has been used by confirm/1 (2026-11-21, 3 arms, 20 runs)",
            id="once",
        ),
        pytest.param(
            [
                SplitUse("confirm/1", "2026-11-21T10:00:00+00:00", 3, 20),
                SplitUse("compare", "2026-11-22T10:00:00+00:00", 2, 4),
            ],
            "the test split has been used by confirm/1 (2026-11-21, 3 arms, 20 runs), "
            "compare (2026-11-22, 2 arms, 4 runs); the error rate holds for each by itself",
            id="twice",
        ),
    ],
)
def test_the_ledger_in_words(uses: list[SplitUse], expected: str) -> None:
    assert ledger_sentence(uses) == expected
