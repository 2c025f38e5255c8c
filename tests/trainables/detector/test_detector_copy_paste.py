"""Copy-paste in a detector's tiles: what is pasted where, and what is counted of it."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_detector import set_up, tiny_spec
from trials import outcome_of, report_of

from trainables.contract.trial import TrialFailure
from trainables.data.boxes.data_set import detection_once
from trainables.detector.feeding.dataset import TrainingTiles


def training_tiles(data: Path, root: Path, knobs: dict[str, float]) -> TrainingTiles:
    return set_up(tiny_spec(data, knobs, steps=6), root).train_loader.dataset


def test_copy_paste_adds_objects_of_other_images_and_counts_them(three_splits: Path, tmp_path: Path) -> None:
    dataset = training_tiles(three_splits, tmp_path, {"copy_paste": 1.0})
    (objects,) = dataset.donors
    assert set(objects[:, 0]) == set(np.flatnonzero(dataset.rare))
    assert {int(dataset.images[image].classes[row]) for image, row in objects} == {1}
    random.seed(0)
    added = 0
    for index, image in enumerate(dataset.images):
        label = dataset.get_image_and_label(index)
        added += int((label["cls"] == 1).sum()) - int((image.classes == 1).sum())
        donors = [tile for tile, _ in dataset._draw_donors(index, np.random.default_rng(index))]
        assert not any(np.array_equal(tile.image, dataset.tile(index).image) for tile in donors)
    assert added == dataset.counts["objects_pasted"] > 0
    assert dataset.counts["augmented_images"] == 0  # pasting is no augmentation


def test_an_object_that_the_border_cuts_off_is_not_pasted(three_splits: Path, tmp_path: Path) -> None:
    data = shutil.copytree(three_splits.parent, tmp_path / "cut")
    knobs = {"copy_paste": 1.0}
    labels = sorted((data / "labels" / "train").glob("*.txt"))
    rare = [label for label in labels if label.read_text().splitlines()[-1].startswith("1 ")]
    rare[0].write_text("1 0.2 0.5 0.4 0.4")
    dataset = training_tiles(data / "data.yaml", tmp_path / "some", knobs)
    (objects,) = dataset.donors
    pasted = {Path(dataset.im_files[image]).stem for image in objects[:, 0]}
    assert pasted == {label.stem for label in rare[1:]}
    for label in rare:
        label.write_text("1 0.2 0.5 0.4 0.4")
    detection_once.cache_clear()
    dataset = training_tiles(data / "data.yaml", tmp_path / "all", knobs)
    assert len(dataset.donors[0]) == len(rare)  # better than none


def test_a_tile_that_is_pasted_into_is_augmented_as_one_of_the_minority(
    three_splits: Path, tmp_path: Path
) -> None:
    knobs = {"copy_paste": 1.0, "augment_minority": 0.5}
    dataset = training_tiles(three_splits, tmp_path, knobs)
    random.seed(0)
    for index in np.flatnonzero(~dataset.rare).tolist():
        dataset.counts.clear()
        dataset.get_image_and_label(index)
        assert dataset.counts["augmented_images"] == (dataset.counts["objects_pasted"] > 0)


def test_exposure_is_the_share_of_draws_with_a_minority_object_after_pasting(
    three_splits: Path, tmp_path: Path
) -> None:
    reports = {
        name: report_of(
            tiny_spec(three_splits, knobs, steps=6, eval_every=6, close_mosaic=0), tmp_path / name
        )
        for name, knobs in {"plain": {}, "pasted": {"copy_paste": 1.0}, "mixed": {"mosaic": 1.0}}.items()
    }
    assert reports["plain"].exposure == reports["mixed"].exposure == 4 / 24  # each image is drawn once
    assert 0.6 < reports["pasted"].exposure <= 1
    shown = {name: report.applied["minority_samples"] for name, report in reports.items()}
    assert 3 <= shown["plain"] <= 4  # a shift may hide one
    assert shown["mixed"] > shown["plain"]
    assert shown["pasted"] > shown["plain"]


def test_copy_paste_without_an_object_to_paste_fails_by_its_receipt(
    three_splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingTiles, "_objects_of", lambda self, class_id: np.zeros((0, 2), dtype=int))
    outcome = outcome_of(tiny_spec(three_splits, {"copy_paste": 0.5}, steps=2), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.reason == "copy_paste: asked 0.5, applied 0.0"
