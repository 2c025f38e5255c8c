"""What is shown of a comparison: its caption, table, rows, json and picture."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from compared_arms import LIFTED, NLL, RECALL, USUAL, arm, compared, gain, with_split
from reports import DIVERGED
from rich.console import Console

from search.judging.compare import compare
from search.judging.comparison import Comparison, at_margins
from search.judging.statistics.bounds import welch
from search.judging.statistics.values import Requirement
from search.show.comparison import as_json, as_rows, as_table, caption
from search.show.pictures.comparison import Mark, comparison_picture, draw_comparison
from spaces.errors import UsageError

WORDS = [
    "Exploratory, on the test split: 3 arms with 4 to 5 seeds each against plain with 10.",
    "Intervals are 95% each, not simultaneous. They count the seeds' error only, not the test split's own.",
    "* differs from plain in minority_recall after Holm over 3 arms at 5%.",
]


@pytest.fixture
def shown() -> Comparison:
    worse = [value - 0.1 for value in USUAL[:5]]
    arms = (
        arm("plain", USUAL),
        arm("lifted", LIFTED),
        arm("worse", worse),
        arm("broken", LIFTED[:4], DIVERGED),
    )
    return compared(*arms, pairs=[("lifted", "worse")])


def test_a_caption_says_how_to_read_it(shown: Comparison) -> None:
    assert caption(shown)[:3] == WORDS
    assert caption(shown)[3].startswith("Equal exposure, lifted minus worse: minority_recall +0.218 [+0.1")
    assert caption(shown)[4].startswith("broken: 1 of 5 seeds gave no result")


def test_a_caption_says_whose_error_is_counted() -> None:
    rng = np.random.default_rng(0)
    arms = [with_split(arm("plain", USUAL), rng), with_split(arm("lifted", LIFTED), rng)]
    both = compared(*arms)
    assert "the seeds' error and the test split's own; for nll the seeds' only." in caption(both)[1]
    recall = compare(arms, "plain", [RECALL], deciding=RECALL, split="test")
    assert caption(recall)[1].endswith("They count the seeds' error and the test split's own.")


def test_a_pairs_difference_is_the_one_over_the_other(shown: Comparison) -> None:
    lifted, worse = (np.array(shown.arms[i].measured[RECALL].values) for i in (1, 2))
    expected = welch(lifted, worse)
    assert shown.pairs[0].differences[RECALL].interval == pytest.approx(
        (expected.lower(0.025), expected.upper(0.025))
    )


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        pytest.param([0.05], {"lifted": "yes", "worse": "no", "broken": "open"}, id="a gain asked for"),
        pytest.param([0.13], {"lifted": "open", "worse": "no"}, id="within the interval"),
        pytest.param([0.3], {"lifted": "no", "worse": "no"}, id="more than there is"),
        pytest.param([0.05, 0.5], {"lifted": "no", "worse": "no"}, id="all of them must hold"),
    ],
)
def test_whether_an_arm_is_beyond_the_margins(
    shown: Comparison, margins: list[float], expected: dict[str, str]
) -> None:
    asked = [Requirement(RECALL, margin) for margin in margins]
    arms = {one.name: one for one in shown.arms}
    assert {name: at_margins(arms[name], asked) for name in expected} == expected


def test_where_lower_is_better_the_margin_is_of_the_other_sign(shown: Comparison) -> None:
    lifted = next(one for one in shown.arms if one.name == "lifted")  # its nll falls by .12
    assert at_margins(lifted, [Requirement(NLL, 0.05, lower_is_better=True)]) == "yes"
    assert at_margins(lifted, [Requirement(NLL, 0.05)]) == "no"


def test_the_table_says_which_arms_are_beyond_the_margins(shown: Comparison) -> None:
    screen = io.StringIO()
    Console(width=140, file=screen).print(as_table(shown, [Requirement(RECALL, 0.05)]))
    text = screen.getvalue()
    assert text.count("margins: yes") == 1
    assert text.count("margins: no") == 1
    assert "whether all intervals keep to minority_recall ≥ +0.05" in text


def test_the_table_shows_means_gains_and_marks(shown: Comparison) -> None:
    screen = io.StringIO()
    Console(width=140, file=screen).print(as_table(shown))
    text = screen.getvalue()
    assert "0.530 ± 0.035" in text
    lifted, worse = gain(shown, "lifted").interval, gain(shown, "worse").interval
    assert lifted is not None
    assert worse is not None
    assert f"+0.121 [{lifted[0]:+.3f},{lifted[1]:+.3f}] *" in text
    assert f"[{worse[0]:+.3f},{worse[1]:+.3f}] *" in text
    assert "4 seeds, 1 failed, 10% exposure" in text
    assert "lower is better" in text
    unwrapped = " ".join(text.split())  # a caption is as wide as its table
    assert all(line in unwrapped for line in WORDS)


def test_rows_have_one_line_per_arm_and_metric(shown: Comparison) -> None:
    rows = as_rows(shown)
    assert [(row["arm"], row["metric"]) for row in rows[:3]] == [
        ("plain", RECALL),
        ("plain", NLL),
        ("lifted", RECALL),
    ]
    assert len(rows) == 8
    assert list(rows[0]) == [
        *("arm", "metric", "n", "mean", "sd", "low", "high", "gain", "gain_low", "gain_high"),
        *("p", "p_holm", "exposure", "note"),
    ]
    lifted = rows[2]
    assert (lifted["n"], lifted["mean"], lifted["gain"]) == (
        5,
        pytest.approx(0.53),
        pytest.approx(0.1211, abs=1e-3),
    )
    assert lifted["gain_low"] < lifted["gain"] < lifted["gain_high"]
    assert lifted["p_holm"] == shown.arms[1].p_holm
    assert rows[3]["p"] is None  # only the deciding metric is tested
    assert rows[0]["gain"] is None


def test_json_holds_plain_values_only(shown: Comparison) -> None:
    read = json.loads(json.dumps(as_json(shown), allow_nan=False))
    assert read["reference"] == "plain"
    lifted = read["arms"][1]
    assert lifted["differs"]
    assert lifted["metrics"][NLL]["gain"]["better"]
    assert lifted["metrics"][RECALL]["values"] == list(LIFTED)
    assert read["arms"][0]["metrics"][RECALL]["gain"] is None
    assert read["arms"][3]["metrics"][RECALL]["gain"]["better"] is None
    assert read["pairs"][0]["differences"][RECALL]["better"]
    assert read["caption"][:3] == WORDS


def test_a_picture_has_a_panel_per_metric_and_a_point_per_arm(shown: Comparison) -> None:
    picture = comparison_picture(shown)
    assert [panel.metric for panel in picture.panels] == [RECALL, NLL]
    assert [panel.lower_is_better for panel in picture.panels] == [False, True]
    assert picture.labels[1] == ("lifted *", "5 seeds, 10% exposure")
    recall, nll = picture.panels
    marks: list[Mark] = [point.mark for point in recall.points]
    assert marks == ["reference", "better", "worse", "unclaimed"]
    assert [point.mark for point in nll.points] == ["reference", "unclear", "unclear", "unclaimed"]
    assert recall.reference == shown.arms[0].measured[RECALL].mean.value
    assert recall.points[1].seeds == LIFTED
    assert recall.points[1].interval == shown.arms[1].measured[RECALL].mean.interval
    assert picture.caption == tuple(caption(shown))


def test_a_picture_of_what_cannot_be_told_is_drawn_all_the_same(tmp_path: Path) -> None:
    picture = comparison_picture(compared(arm("plain", [None, None]), arm("other", [], DIVERGED)))
    assert picture.panels[0].reference is None
    draw_comparison(picture, tmp_path / "empty.svg")
    assert "</svg>" in (tmp_path / "empty.svg").read_text()


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_comparison_gives_the_same_file(shown: Comparison, tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        draw_comparison(comparison_picture(shown), tmp_path / f"{name}.{kind}")
    written = (tmp_path / f"one.{kind}").read_bytes()
    assert written == (tmp_path / f"two.{kind}").read_bytes()
    assert written.startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])


def test_a_picture_of_another_kind_is_refused(shown: Comparison, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg or \.png, got arms\.pdf"):
        draw_comparison(comparison_picture(shown), tmp_path / "arms.pdf")
