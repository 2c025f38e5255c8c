"""Learning curves and confusion matrices: what pictures of them show, and that they are the same twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_predictions import drawn_classifications
from in_process import config
from told_trials import trial

from search.judging.choosing import Recommended
from search.judging.front import front
from search.record.outcomes import Baseline, StudyTrial
from search.show.pictures.confusion import confusion_picture, draw_confusion
from search.show.pictures.curves import MOST, Band, curves_picture
from search.show.pictures.drawn_curves import draw_curves
from search.show.pictures.drawn_front import draw_front
from search.show.pictures.front import front_picture
from spaces.errors import UsageError
from trainables.contract.trial import EpochMetrics, TrialReport

CONFIG = config()


def all_epochs(report: TrialReport) -> Sequence[EpochMetrics]:
    return report.curve


def learning(number: int, *recalls: float | None, overall: float = 0.5) -> StudyTrial:
    """A trial whose recall was so after each epoch; the last is what counts."""
    curve = tuple(
        EpochMetrics(epoch=i, metrics={"minority_recall": recall, "map50_95": overall})
        for i, recall in enumerate(recalls, start=1)
    )
    one = trial(number, recalls[-1] or 0.0, overall)
    assert one.report is not None
    return replace(one, report=one.report.model_copy(update={"curve": curve}))


SEEDS = Baseline.of([learning(0, 0.1, 0.3), learning(1, 0.2, 0.5), learning(2, 0.3, 0.4, 0.4)])


def test_the_band_is_mean_and_sd_over_the_epochs_that_all_seeds_have() -> None:
    picture = curves_picture(front([], CONFIG.objectives, SEEDS), None, SEEDS, CONFIG, all_epochs)
    recall, overall = picture.panels  # the curves lack minority_ap50, which is guarded, too
    assert (recall.metric, overall.metric) == ("minority_recall", "map50_95")
    assert recall.baseline == Band((1, 2), pytest.approx((0.2, 0.4)), pytest.approx((0.1, 0.1)))
    assert (picture.seeds, picture.steps) == (3, 10)


def test_a_curve_has_the_epochs_that_were_measured() -> None:
    best = learning(4, 0.2, None, 0.7)
    found = front([best], CONFIG.objectives, SEEDS)
    (curve,) = (
        curves_picture(found, Recommended(best, with_margin=True), SEEDS, CONFIG, all_epochs).panels[0].curves
    )
    assert (curve.label, curve.epochs, curve.values, curve.recommended) == (
        "trial 4",
        (1, 3),
        (0.2, 0.7),
        True,
    )


def test_of_a_long_front_the_recommended_one_is_shown_in_any_case() -> None:
    trials = [learning(i, 0.5, 0.9 - i / 100, overall=0.5 + i / 100) for i in range(MOST + 3)]
    found = front(trials, CONFIG.objectives, SEEDS)
    picture = curves_picture(found, Recommended(trials[-1], with_margin=True), SEEDS, CONFIG, all_epochs)
    assert [curve.label for curve in picture.panels[0].curves][:3] == [
        f"trial {MOST + 2}",
        "trial 0",
        "trial 1",
    ]
    assert (len(picture.panels[0].curves), picture.left_out) == (MOST, 3)


def test_a_confusion_matrix_has_the_recall_on_its_diagonal() -> None:
    stored = drawn_classifications(0)
    picture = confusion_picture("digits", stored.class_names[:1].tolist(), [("baseline", stored)])
    ((title, shares),) = picture.panels
    assert title == "baseline"
    assert picture.class_names[0].endswith(" *")
    for i in range(len(shares)):
        own = stored.label == i
        assert shares[i, i] == pytest.approx(np.mean(stored.logits[own].argmax(axis=1) == i))


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_values_give_the_same_file(kind: str, tmp_path: Path) -> None:
    trials = [learning(4, 0.2, 0.7), learning(5, 0.2, 0.6, overall=0.6), learning(6, 0.2, 0.1)]
    found, best = front(trials, CONFIG.objectives, SEEDS), Recommended(trials[0], with_margin=True)
    stored = drawn_classifications(0)
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        draw_front(front_picture(found, best, SEEDS, CONFIG), folder / f"front.{kind}")
        draw_curves(curves_picture(found, best, SEEDS, CONFIG, all_epochs), folder / f"curves.{kind}")
        draw_confusion(
            confusion_picture("digits", [], [("a", stored), ("b", stored)]), folder / f"confusion.{kind}"
        )
    for name in ("front", "curves", "confusion"):
        one, two = (tmp_path / folder / f"{name}.{kind}" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert one.read_bytes().startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])


def test_a_picture_that_cannot_be_written_is_the_persons_error(tmp_path: Path) -> None:
    picture = front_picture(front([], CONFIG.objectives, SEEDS), None, SEEDS, CONFIG)
    with pytest.raises(UsageError, match="cannot write"):
        draw_front(picture, tmp_path / "missing" / "front.png")
