from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_predictions import N_IMAGES, drawn_classifications, drawn_detections

from spaces.errors import RarecallError, RunError, UsageError
from trainables.contract.predictions import (
    DetectionPredictions,
    Predictions,
    load_predictions,
    restricted,
    save_predictions,
)

BOTH = pytest.mark.parametrize(
    "predictions",
    [
        pytest.param(drawn_classifications(0), id="classification"),
        pytest.param(drawn_detections(0), id="detection"),
    ],
)


def assert_equal(one: object, other: object) -> None:
    """Array for array, also within what ships."""
    assert type(one) is type(other)
    for field in fields(one):  # type: ignore[arg-type]
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if is_dataclass(ours):
            assert_equal(ours, theirs)
        else:
            np.testing.assert_array_equal(ours, theirs, field.name)


@BOTH
def test_what_was_saved_is_loaded(predictions: Predictions, tmp_path: Path) -> None:
    save_predictions(tmp_path / "predictions.npz", predictions)
    assert_equal(load_predictions(tmp_path / "predictions.npz"), predictions)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


def test_a_file_of_another_schema_is_an_error_that_names_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "predictions.npz", version=7)
    with pytest.raises(
        UsageError, match=r"predictions\.npz: predictions schema version 7[^\0]*newer rarecall"
    ):
        load_predictions(tmp_path / "predictions.npz")


@BOTH
def test_restricted_to_all_images_nothing_changes(predictions: Predictions) -> None:
    assert_equal(restricted(predictions, np.ones(N_IMAGES, dtype=bool)), predictions)


@BOTH
def test_restricted_twice_is_restricted_to_both(predictions: Predictions) -> None:
    first, second = np.arange(N_IMAGES) % 3 != 0, np.arange(N_IMAGES) % 5 != 0
    assert_equal(
        restricted(restricted(predictions, first), second[first]), restricted(predictions, first & second)
    )


def test_images_that_go_take_their_columns_along_and_the_others_are_re_indexed() -> None:
    three = DetectionPredictions(
        split="test",
        class_names=np.array(["a", "b"]),
        minority=np.array([1]),
        image=np.array(["i0", "i1", "i2"]),
        source=np.array(["s", "s", "t"]),
        size=np.array([[10, 20], [30, 40], [50, 60]]),
        pred_image=np.array([2, 1, 0, 2]),
        pred_class=np.array([0, 1, 1, 0]),
        pred_score=np.array([0.9, 0.8, 0.7, 0.6]),
        pred_box=np.arange(16.0).reshape(4, 4),
        pred_match=np.repeat([[True], [False], [True], [False]], 10, axis=1),
        pred_ignored=np.array([False, True, False, True]),
        true_image=np.array([0, 1, 2]),
        true_class=np.array([1, 0, 0]),
        true_box=np.arange(12.0).reshape(3, 4),
        max_det=100,
        conf=0.001,
        iou=0.7,
    )
    by_hand = replace(
        three,
        image=np.array(["i0", "i2"]),
        source=np.array(["s", "t"]),
        size=np.array([[10, 20], [50, 60]]),
        pred_image=np.array([1, 0, 1]),
        pred_class=np.array([0, 1, 0]),
        pred_score=np.array([0.9, 0.7, 0.6]),
        pred_box=np.array([[0.0, 1, 2, 3], [8, 9, 10, 11], [12, 13, 14, 15]]),
        pred_match=np.repeat([[True], [True], [False]], 10, axis=1),
        pred_ignored=np.array([False, False, True]),
        true_image=np.array([0, 1]),
        true_class=np.array([1, 0]),
        true_box=np.array([[0.0, 1, 2, 3], [8, 9, 10, 11]]),
    )
    assert_equal(restricted(three, np.array([True, False, True])), by_hand)


def test_images_of_a_classifier_keep_their_labels_logits_and_weights() -> None:
    whole, keep = drawn_classifications(0), np.arange(N_IMAGES) >= 34
    last = restricted(whole, keep)
    assert last.image.tolist() == ["i34", "i35"]
    assert last.source.tolist() == ["s10", "s11"]
    for name in ("label", "logits", "weight"):
        np.testing.assert_array_equal(getattr(last, name), getattr(whole, name)[-2:])


def test_a_file_of_0_1_0_lacks_what_ships_and_is_read(tmp_path: Path) -> None:
    plain = replace(drawn_detections(0), shipped=None)
    np.savez(
        tmp_path / "old.npz",
        version=2,
        task="detection",
        **{name: value for name, value in vars(plain).items() if name not in ("shipped", "pred_ignored")},
    )
    assert_equal(load_predictions(tmp_path / "old.npz"), plain)


def test_a_file_of_version_4_ignores_nothing(tmp_path: Path) -> None:
    ours = drawn_detections(0)
    old = altered(ours, tmp_path / "p.npz", version=4, pred_ignored=None, shipped_ignored=None)
    assert_equal(load_predictions(old), ours)


def altered(predictions: Predictions, path: Path, **arrays: Any) -> Path:
    """A file whose arrays are others than they should be; None leaves one out."""
    save_predictions(path, predictions)
    with np.load(path) as stored:
        found = {name: stored[name] for name in stored.files} | arrays
    np.savez(path, **{name: value for name, value in found.items() if value is not None})
    return path


@BOTH
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_cut_file_is_said_to_be_damaged(predictions: Predictions, share: float, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    save_predictions(path, predictions)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RarecallError, match=r"predictions\.npz(: a| is) damaged"):
        load_predictions(path)


@BOTH
def test_a_file_that_was_written_over_is_said_to_be_damaged(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    rng = np.random.default_rng(0)
    for _ in range(30):
        save_predictions(path, predictions)
        content = bytearray(path.read_bytes())
        for place in rng.integers(len(content), size=40):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        with pytest.raises(RarecallError, match=r"predictions\.npz"):
            load_predictions(path)


@pytest.mark.parametrize(
    ("predictions", "arrays", "says"),
    [
        (drawn_classifications(0), {"logits": None}, "logits"),
        (drawn_classifications(0), {"label": np.zeros(3, int)}, "'label' has the shape"),
        (drawn_classifications(0), {"minority": np.array([99])}, "'minority' points beyond"),
        (drawn_classifications(0), {"logits": np.array([object()])}, "Object arrays"),
        (drawn_classifications(0), {"task": "poetry"}, "poetry"),
        (drawn_classifications(0), {"version": 1}, "version 1"),
        (drawn_classifications(0), {"version": "new"}, "new"),
        (drawn_detections(0), {"pred_box": np.zeros((5, 4))}, "'pred_box' has the shape"),
        (drawn_detections(0), {"shipped_match": np.zeros(2, bool)}, "'match' has the shape"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    predictions: Predictions, arrays: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = altered(predictions, tmp_path / "predictions.npz", **arrays)
    with pytest.raises(RunError, match=f"predictions.npz is damaged: .*{says}"):
        load_predictions(path)


def test_predictions_of_another_task_and_none_at_all(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    with pytest.raises(RunError, match="is gone"):
        load_predictions(path)
    save_predictions(path, drawn_detections(0))
    with pytest.raises(RunError, match="holds no predictions of classification"):
        load_predictions(path, "classification")
