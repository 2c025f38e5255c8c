"""Which tiles a detector trains on, and what augmentation, mosaic and mixup make of them."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_detector import EVERYTHING, changed_pixels, set_up, tiny_spec
from torch.utils.data._utils.pin_memory import pin_memory
from trials import report_of

from trainables.detector.strategy_run import StrategyRun

MIXING = {"mosaic": 1.0, "mixup": 1.0}


def prepared(data: Path, root: Path, knobs: dict[str, float], **train: float) -> StrategyRun:
    """A run of six steps that is set up but not trained."""
    return set_up(tiny_spec(data, knobs, **{"steps": 6, **train}), root)


def test_undersampling_keeps_every_minority_image_and_leaves_val_alone(
    three_splits: Path, tmp_path: Path
) -> None:
    run = prepared(three_splits, tmp_path, {"retention": 0.25})
    dataset = run.train_loader.dataset
    assert len(dataset) == 4 + 5
    assert dataset.rare.sum() == 4
    assert len(run.test_loader.dataset) == 10
    everything = prepared(three_splits, tmp_path, {}).train_loader.dataset
    assert len(everything) == 24


def test_an_image_drawn_twice_is_augmented_twice(three_splits: Path, tmp_path: Path) -> None:
    dataset = prepared(three_splits, tmp_path, {}).train_loader.dataset
    n = len(dataset)
    once, twice, again = (dataset[position * n + 3]["img"] for position in (0, 1, 0))
    assert torch.equal(once, again)
    assert not torch.equal(once, twice)


def test_only_the_images_asked_for_are_augmented(three_splits: Path, tmp_path: Path) -> None:
    plain = prepared(three_splits, tmp_path, {}).train_loader.dataset
    minority = prepared(three_splits, tmp_path, {"augment_minority": 1.0}).train_loader.dataset
    for image, rare in enumerate(plain.rare):
        same_pixels = np.array_equal(
            changed_pixels(plain.get_image_and_label(image)),
            changed_pixels(minority.get_image_and_label(image)),
        )
        assert same_pixels != rare


@pytest.mark.parametrize(("variants", "expected"), [(0, 40), (1, 1), (3, 3)])
def test_an_image_has_as_many_ways_of_being_augmented_as_there_are_variants(
    variants: int, expected: int, three_splits: Path, tmp_path: Path
) -> None:
    knobs = {"augment_minority": 1.0, "augment_variants": variants}
    dataset = prepared(three_splits, tmp_path, knobs).train_loader.dataset
    image = int(np.flatnonzero(dataset.rare)[0])
    seen = {changed_pixels(dataset.get_image_and_label(image)).tobytes() for _ in range(40)}
    assert len(seen) == expected


def test_a_variant_is_the_same_whatever_else_is_kept_and_another_for_another_seed(
    three_splits: Path, tmp_path: Path
) -> None:
    def pictures(**changes: float) -> dict[str, set[bytes]]:
        knobs = {"augment_minority": 1.0, "augment_variants": 2, "retention": changes.get("retention", 1.0)}
        spec = tiny_spec(three_splits, knobs, seed=int(changes.get("seed", 0)), steps=6)
        made = set_up(spec, tmp_path / str(changes)).train_loader.dataset
        return {
            made.images[i].name: {changed_pixels(made.get_image_and_label(i)).tobytes() for _ in range(20)}
            for i in np.flatnonzero(made.rare).tolist()
        }

    assert pictures() == pictures(retention=0.25)
    other = pictures(seed=1)
    assert all(of.isdisjoint(other[name]) for name, of in pictures().items())


def test_mosaic_and_mixup_draw_their_partners_with_the_samplers_weights(
    three_splits: Path, tmp_path: Path
) -> None:
    knobs = {"sampler_power": 1.0, "mosaic": 1.0, "mixup": 1.0}
    dataset = prepared(three_splits, tmp_path, knobs).train_loader.dataset
    pre_transform, mixup = dataset.mixed.transforms[:2]
    random.seed(0)
    for mixing, partners in ((pre_transform.transforms[0], 3), (mixup, 1)):
        drawn = np.array([mixing.get_indexes() for _ in range(6000 // partners)])  # (n, partners)
        assert drawn.shape[1] == partners
        share = np.bincount(drawn.ravel(), minlength=len(dataset)) / 6000
        np.testing.assert_allclose(share, dataset.weights, atol=0.015)


def sample_bytes(sample: dict[str, object]) -> list[bytes]:
    return [np.asarray(sample[key]).tobytes() for key in ("img", "cls", "bboxes")]


def test_mosaic_and_mixup_close_at_a_step_and_are_nothing_where_a_strategy_has_neither(
    three_splits: Path, tmp_path: Path
) -> None:
    def samples(knobs: dict[str, float], close_mosaic: float) -> list[list[bytes]]:
        dataset = prepared(three_splits, tmp_path, knobs, close_mosaic=close_mosaic).train_loader.dataset
        return [sample_bytes(dataset[position * len(dataset) + 3]) for position in range(24)]

    plain, half, never = samples({}, 0.5), samples(MIXING, 0.5), samples(MIXING, 0.0)
    assert samples({}, 0.0) == plain
    assert half[:12] == never[:12]  # 3 of 6 steps, 4 images each
    assert half[12:] == plain[12:]
    assert all(one != other for one, other in zip(never, plain, strict=True))


def test_other_processes_prepare_the_same_batches(three_splits: Path, tmp_path: Path) -> None:
    def batches(workers: int) -> list[list[bytes]]:
        run = prepared(three_splits, tmp_path, EVERYTHING)
        run.args.workers = workers
        return [sample_bytes(batch) for batch in run.get_dataloader("train", 4)]

    assert batches(0) == batches(2)


def test_no_strategy_touches_what_is_measured(three_splits: Path, tmp_path: Path) -> None:
    for split in ("val", "test", "train"):  # of train, to be measured, the images of the minority
        plain, changed = (
            prepared(three_splits, tmp_path, knobs).get_dataloader(split, 4, mode="val")
            for knobs in ({}, EVERYTHING)
        )
        for (images, pixels), (same_images, same_pixels) in zip(plain, changed, strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(pixels, same_pixels)


def test_boxes_that_the_augmentation_loses_are_counted(three_splits: Path, tmp_path: Path) -> None:
    data = shutil.copytree(three_splits.parent, tmp_path / "outside")
    for label in (data / "labels" / "train").glob("*.txt"):
        lines = label.read_text().splitlines()
        if lines[-1].startswith("1 "):  # a tile of the minority gets a box that lies just outside of it
            label.write_text("\n".join(["0 1.004 0.5 0.006 0.2", *lines]))
    knobs = {"augment_minority": 1.0, "sampler_power": 1.0}
    report = report_of(tiny_spec(data / "data.yaml", knobs, steps=6), tmp_path / "t")
    draws = report.applied["minority_draws"]
    assert draws == report.applied["augmented_images"] > 0
    assert report.applied["boxes_lost"] == draws
    # 1 to 3 cells, a cluster, the one outside
    assert 3 * draws <= report.applied["boxes_augmented"] <= 5 * draws


def test_boxes_are_counted_alike_when_other_processes_prepare_the_batches(
    three_splits: Path, tmp_path: Path
) -> None:
    def counted(workers: int) -> dict[str, int]:
        run = prepared(three_splits, tmp_path, EVERYTHING)
        run.args.workers = workers
        for batch in run.get_dataloader("train", 4):
            run.preprocess_batch(batch)
        return dict(run.counts)

    assert counted(0) == counted(2)
    assert counted(0)["boxes_augmented"] > 8


def test_pinning_a_batch_for_a_gpu_changes_none_of_its_counts(
    three_splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # itself it needs a GPU

    def counted(pinned: bool) -> dict[str, int]:
        run = prepared(three_splits, tmp_path, EVERYTHING)
        for batch in run.get_dataloader("train", 4):
            run.preprocess_batch(pin_memory(batch) if pinned else batch)
        assert sum(run.drawn.values()) == 8
        return dict(run.counts)

    assert counted(pinned=True) == counted(pinned=False)
    assert 0 < counted(pinned=True)["minority_draws"] <= 8
