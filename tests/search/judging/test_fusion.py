"""Pairs of finished models, by what each has predicted: against the metrics of predictions that are one's."""

from dataclasses import replace

import numpy as np
import pytest
from in_process import config
from matched_boxes import drawn

from search.judging.fusion import Fusion, Model, Rules, fusions, ranked, together
from spaces.strategy import NAMED
from trainables.contract.predictions import DetectionPredictions
from trainables.evaluation.detection import class_curves, detection_metrics
from trainables.evaluation.fusion import without_covered


def model(name: str, found: DetectionPredictions, **more: DetectionPredictions) -> Model:
    """A model; `more` is way of merging -> what it finds on whole images."""
    return Model(name, NAMED["plain"], 10.0, found, more.__getitem__ if more else None)


def test_a_model_beside_itself_has_its_own_aps_and_each_classs_best_point() -> None:
    found = drawn(1)
    one = model("a", found)
    metrics, alone = together(one, one, 0.0), detection_metrics(found)
    for name in ("minority_ap50", "map50", "map50_95", "ap50/cell", "map50_95/cluster", "minority_froc"):
        assert metrics[name] == alone[name]
    assert metrics["minority_recall"] == alone["recall_best_f1/cluster"]
    assert metrics["recall/cell"] == alone["recall_best_f1/cell"]


def test_each_class_is_measured_by_its_own_model() -> None:
    good = drawn(1)
    bad = replace(good, pred_match=np.zeros_like(good.pred_match))
    rest_good = together(model("good", good), model("bad", bad), 0.0)
    assert rest_good["ap50/cell"] == detection_metrics(good)["ap50/cell"]
    assert rest_good["minority_ap50"] == 0.0
    rare_good = together(model("bad", bad), model("good", good), 0.0)
    assert rare_good["ap50/cell"] == 0.0
    assert rare_good["minority_ap50"] == detection_metrics(good)["minority_ap50"]


def test_suppression_leaves_out_the_majority_inside_what_is_surely_of_the_minority() -> None:
    found = drawn(2, rare=0.4)
    one = model("a", found)
    left = without_covered(found, least=one.best[1], share=0.8)
    assert len(left.pred_class) < len(found.pred_class)
    metrics = together(one, one, 0.8)
    assert metrics["ap50/cell"] == float(class_curves(left)[0].ap[0]) != detection_metrics(found)["ap50/cell"]
    assert metrics["minority_ap50"] == detection_metrics(found)["minority_ap50"]


def test_whole_images_are_measured_beside_their_tiles() -> None:
    tiles, wholes, others = drawn(1), drawn(3), drawn(4)
    one = model("a", tiles, core=wholes, wbf=others)
    for way, found in (("core", wholes), ("wbf", others)):
        metrics = together(one, one, 0.0, way)  # type: ignore[arg-type]
        assert metrics["merged/ap50/cell"] == detection_metrics(found)["ap50/cell"]
        assert metrics["ap50/cell"] == detection_metrics(tiles)["ap50/cell"]
    assert not any(name.startswith("merged/") for name in together(one, one, 0.0))


def test_the_feasible_come_first_then_the_higher_objectives() -> None:
    def pair(recall: float, overall: float, violation: float) -> Fusion:
        metrics = {"minority_recall": recall, "map50_95": overall}
        two = (NAMED["plain"], NAMED["weighted"])
        return Fusion(
            number=0,
            majority="baseline",
            minority="trial 1",
            strategies=two,
            suppress=0.0,
            metrics=metrics,
            violations={"map50_95": violation},
            seconds=1.0,
        )

    found = [pair(0.9, 0.5, 0.1), pair(0.6, 0.4, 0.0), pair(0.6, 0.5, -0.1), pair(0.7, 0.1, -0.2)]
    best = ranked(found, ("minority_recall", "map50_95"))
    assert [one.number for one in best] == [0, 1, 2, 3]
    assert [one.metrics["minority_recall"] for one in best] == [0.7, 0.6, 0.6, 0.9]
    assert [one.metrics["map50_95"] for one in best] == [0.1, 0.5, 0.4, 0.5]
    assert [one.feasible for one in best] == [True, True, True, False]


def test_a_pair_is_held_against_the_guards_of_the_baseline() -> None:
    one, other = model("baseline", drawn(1)), model("trial 3", drawn(1, rare=0.15))
    baseline = detection_metrics(drawn(1))
    found = fusions(one, other, Rules.of(config(), baseline, whole_images=False))
    assert [(pair.majority, pair.minority, pair.suppress) for pair in found] == [
        ("baseline", "trial 3", 0.0),
        ("baseline", "trial 3", 0.8),
    ]
    drop = baseline["map50_95"]
    assert drop is not None
    got = found[1].metrics["map50_95"]
    assert got is not None
    assert found[1].violations["map50_95"] == pytest.approx(drop - got - 0.03)
    assert found[0].seconds == 20.0


def test_on_whole_images_it_is_they_that_decide() -> None:
    one = model("baseline", drawn(1), core=drawn(3))
    baseline = {f"merged/{name}": value for name, value in detection_metrics(drawn(5)).items()}
    rules = Rules.of(config(), baseline, whole_images=True)
    assert rules.objectives == ("merged/minority_recall", "merged/map50_95")
    pair = fusions(one, one, rules, "core")[0]
    assert pair.merging == "core"
    before, after = baseline["merged/map50_95"], pair.metrics["merged/map50_95"]
    assert before is not None
    assert after is not None
    assert pair.violations["merged/map50_95"] == pytest.approx(before - after - 0.03)
