"""A detector that trains on copies of whole images: what it draws, what its receipt says, how it goes on."""

# isort: split
from pathlib import Path

import numpy as np
import pytest
import torch
from tiled_data import draw_tiled
from tiny_detector import changed_pixels, check_resumed, different, set_up, tiny_spec, weights_in
from trials import killed_after, outcome_of, report_of

from spaces.strategy import NAMED
from trainables.contract.trial import TrialFailure
from trainables.data.boxes.listed import BoxImage
from trainables.detector import strategy_run

PRETILE = {"pretile_copies": 2, "augment_minority": 0.5}
BUSY = PRETILE | {"retention": 0.5, "sampler_power": 0.5, "alpha_power": 0.5, "augment_rest": 0.3}
BUSY |= {"copy_paste": 0.3, "mosaic": 0.5, "augment_variants": 2}
FRESH = PRETILE | {"pretile_fresh": 1}


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of ten slides, seven of them to train on; only to be read."""
    return draw_tiled(tmp_path_factory.mktemp("tiled"))


def test_copies_join_the_training_tiles_alone_and_none_is_augmented_again(
    tiled: Path, tmp_path: Path
) -> None:
    run = set_up(tiny_spec(tiled, PRETILE | {"augment_rest": 0.5, "retention": 0.5}), tmp_path / "a")
    plain = set_up(tiny_spec(tiled, {"retention": 0.5}), tmp_path / "b")
    dataset, without = run.train_loader.dataset, plain.train_loader.dataset
    assert dataset.copies > 60
    assert dataset.images[: -dataset.copies] == without.images
    assert all(image.is_copy for image in dataset.images[-dataset.copies :])
    assert dataset.majority_images == without.majority_images
    np.testing.assert_array_equal(dataset.class_counts, without.class_counts)
    assert (dataset.sampled_counts > without.sampled_counts).all()
    assert run.yolo is plain.yolo
    assert not any(image.is_copy for images in run.yolo.splits.values() for image in images)
    for i, rare in enumerate(dataset.rare):
        as_it_is = np.array_equal(changed_pixels(dataset.get_image_and_label(i)), dataset.images[i].pixels())
        assert as_it_is == rare


def test_the_pixels_of_copies_are_held_by_their_trial_alone(tiled: Path, tmp_path: Path) -> None:
    dataset = set_up(tiny_spec(tiled, PRETILE), tmp_path).train_loader.dataset
    assert dataset.pixels.mapped
    for i, image in enumerate(dataset.images):
        assert (image.path in dataset.pixels._place) != image.is_copy
        np.testing.assert_array_equal(dataset.load_image(i)[0], image.pixels())


NAMES = ["pretile_3", "pretile_fresh_3", "pretile_3_plain", "undersampled_40_pretile"]


@pytest.mark.parametrize("name", NAMES)
def test_a_named_strategy_with_copies_is_applied_as_asked(name: str, tiled: Path, tmp_path: Path) -> None:
    report = report_of(tiny_spec(tiled, NAMED[name].changed(), steps=40, eval_every=20), tmp_path)
    applied = report.applied
    assert (applied["pretile_copies"], applied["copied_images"], applied["augment_variants"]) == (3, 7, 0)
    assert applied["augment_minority"] == NAMED[name].augmentation.augment_minority
    assert (
        applied["pretile_fresh"] == NAMED[name].augmentation.pretile_fresh == (applied["renewed_tiles"] > 0)
    )
    assert applied["augmented_images"] == 0
    originals = applied["minority_images"] - applied["copied_tiles"]
    assert 2 * originals < applied["copied_tiles"] < 4 * originals
    share = applied["minority_images"] / applied["images_kept"]
    assert report.exposure == pytest.approx(share, abs=0.15)
    assert report.exposure == applied["exposure/cluster"]


def test_fresh_copies_are_drawn_as_often_as_fixed_ones_and_never_look_alike(
    tiled: Path, tmp_path: Path
) -> None:
    fresh, fixed = (
        set_up(tiny_spec(tiled, knobs, imgsz=96), tmp_path / name).train_loader.dataset
        for name, knobs in (("fresh", FRESH), ("fixed", PRETILE))
    )
    assert [image.path for image in fresh.images] == [image.path for image in fixed.images]
    assert fresh.weights is fixed.weights is None
    last = len(fresh) - 1
    seen = [fresh.get_image_and_label(last) for _ in range(10)]
    assert len({label["img"].tobytes() for label in seen}) == 10
    assert all(label["img"].shape == (96, 96, 3) and 1 in label["cls"] for label in seen)
    assert all(0 <= label["instances"].bboxes.min() <= label["instances"].bboxes.max() <= 1 for label in seen)
    assert fresh.counts["renewed_tiles"] == 10
    alike = {changed_pixels(fixed.get_image_and_label(last)).tobytes() for _ in range(3)}
    assert len(alike) == 1


def test_a_model_of_the_majority_sees_no_minority_on_fresh_copies(tiled: Path, tmp_path: Path) -> None:
    run = set_up(tiny_spec(tiled, FRESH), tmp_path)
    dataset = run.train_loader.dataset
    dataset.learns = [0]
    labels = [dataset.get_image_and_label(len(dataset) - 1)["cls"] for _ in range(10)]
    assert all((cls == 0).all() for cls in labels)
    assert any(len(cls) for cls in labels)


@pytest.mark.parametrize("fresh", [0, 1])
def test_a_trial_with_copies_goes_on_bit_for_bit(fresh: int, tiled: Path, tmp_path: Path) -> None:
    spec = tiny_spec(tiled, BUSY | {"pretile_fresh": fresh})
    whole = check_resumed(spec, killed_after(2, spec, tmp_path / "killed"), tmp_path)
    assert whole.applied["pretile_copies"] == 2
    assert whole.applied["augment_variants"] == 2


def test_the_same_seed_gives_the_same_run_and_another_one_other_copies(tiled: Path, tmp_path: Path) -> None:
    first, again, other = (
        report_of(tiny_spec(tiled, PRETILE, seed=seed), tmp_path / folder)
        for folder, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert different(weights_in(tmp_path / "a"), weights_in(tmp_path / "b")) == []
    assert different(weights_in(tmp_path / "a"), weights_in(tmp_path / "c")) != []
    assert first.applied == again.applied
    assert first.applied["copied_tiles"] != other.applied["copied_tiles"]


def test_no_copy_touches_what_is_measured(tiled: Path, tmp_path: Path) -> None:
    for split in ("val", "test", "train"):
        plain, changed = (
            set_up(tiny_spec(tiled, knobs), tmp_path / f"{split}{i}").get_dataloader(split, 4, mode="val")
            for i, knobs in enumerate(({}, PRETILE))
        )
        for (images, pixels), (same_images, same_pixels) in zip(plain, changed, strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(pixels, same_pixels)


def fewer(*arguments: object, **named: object) -> tuple[BoxImage, ...]:
    return tuple(image for image in copied(*arguments, **named) if "#1/" in image.name)


def others(data: object, minority: object, augmentation: object, *, seed: int) -> tuple[BoxImage, ...]:
    return copied(data, minority, augmentation, seed=seed + 1)


copied = strategy_run.copied_tiles


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        pytest.param(lambda *_, **__: (), "pretile_copies: asked 2, applied 0", id="no copies"),
        pytest.param(fewer, "pretile_copies: asked 2, applied 1", id="fewer copies"),
        pytest.param(others, "augment_minority: asked 0.5, applied None", id="another seed's copies"),
    ],
)
def test_copies_that_were_not_made_as_asked_fail_the_receipt(
    instead: object, says: str, tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy_run, "copied_tiles", instead)
    outcome = outcome_of(tiny_spec(tiled, PRETILE), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert says in outcome.reason
