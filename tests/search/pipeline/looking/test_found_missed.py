"""What one model finds and another misses, by hand."""

from dataclasses import replace

import numpy as np
from matched_boxes import with_matches

from search.pipeline.looking.found_missed import boxes_in, cases
from trainables.contract.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    ShippedBoxes,
)

A, B, C, D = [10, 10, 30, 30], [50, 50, 70, 70], [10, 60, 30, 80], [80, 10, 120, 50]


def finds(boxes: list, scores: list, labels: list | None = None) -> DetectionPredictions:
    """On image 0, where A to D are rare, and a cell at 0, 0; the weights that ship find the same boxes."""
    labels = [1] * len(boxes) if labels is None else labels
    truth = [A, B, C, D, [0, 0, 8, 8]]
    image = np.zeros(len(boxes), dtype=int)
    found = with_matches(
        image, np.array(labels, int), np.array(scores, float), np.array(boxes, float).reshape(-1, 4),
        [0] * 5, [1, 1, 1, 1, 0], truth, 2,
    )  # fmt: skip
    shipped = ShippedBoxes(
        tuned=np.ones(len(boxes), dtype=bool),
        bias=np.zeros(2),
        conf=0.2,
        image=found.pred_image,
        label=found.pred_class,
        score=found.pred_score,
        box=found.pred_box.astype(np.float32),
        match=found.pred_match[:, 0],
        ignored=found.pred_ignored,
    )
    return replace(found, shipped=shipped)


def test_each_rare_object_is_in_one_group_the_most_telling_first() -> None:
    gone = [200, 200, 220, 220]
    before = finds([A, [100, 100, 110, 110], [0, 0, 8, 8], gone], [0.9, 0.5, 0.9, 0.3], [1, 1, 0, 1])
    after = finds([B, C, [100, 100, 111, 111], [40, 100, 60, 120]], [0.6, 0.7, 0.5, 0.4])
    found = cases(before, after)
    assert {group: [one.box for one in some] for group, some in found.items()} == {
        "found_now": [tuple(map(float, C)), tuple(map(float, B))],
        "still_missed": [tuple(map(float, D))],
        "newly_lost": [tuple(map(float, A))],
        "new_false_alarms": [(40.0, 100.0, 60.0, 120.0)],  # the other was called before, too
        "alarms_gone": [tuple(map(float, gone))],
    }
    assert {one.image for some in found.values() for one in some} == {0}


def test_two_boxes_on_one_object_find_it_once_and_the_second_is_an_alarm() -> None:
    after = finds([A, [11, 11, 31, 31]], [0.9, 0.8])
    found = cases(finds([], []), after)
    assert [one.box for one in found["found_now"]] == [tuple(map(float, A))]
    assert [one.score for one in found["new_false_alarms"]] == [np.float32(0.8)]
    true, called, scores = boxes_in(after, 0, [1])
    assert (len(true), len(called), len(scores)) == (4, 2, 2)
    assert [len(of) for of in boxes_in(after, 1, [1])] == [0, 0, 0]


def test_a_classifiers_images_are_grouped_by_what_they_are_called() -> None:
    label, before, after = (
        np.array(of) for of in ([1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 1, 1], [1, 0, 0, 1, 1, 1, 0])
    )

    def called(as_class: np.ndarray, sure: float) -> ClassificationPredictions:
        logits = np.eye(2)[as_class] * np.linspace(sure, 2 * sure, len(label))[:, None]
        return ClassificationPredictions.untouched(
            split="val", class_names=np.array(["usual", "rare"]), minority=np.array([1]),
            image=np.array([f"i{i}" for i in range(7)]), source=np.array([f"s{i}" for i in range(7)]),
            label=label, logits=logits, weight=np.ones(7),
        )  # fmt: skip

    found = cases(called(before, 1.0), called(after, 1.0))
    assert {group: [one.image for one in some] for group, some in found.items()} == {
        "found_now": [0],
        "still_missed": [1],
        "newly_lost": [2],
        "new_false_alarms": [4],
        "alarms_gone": [6],
    }
