"""Copies of whole images: which there are, that boxes follow the pixels, and how their files are kept."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiled_data import GRID, HEIGHT, WIDTH, draw_slides, draw_tiled

from spaces.augmentation import Augmentation
from spaces.errors import UsageError
from trainables.contract.node import cache_folder
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.listed import BoxData, BoxImage
from trainables.data.boxes.tiling import Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import cut_into
from trainables.detector.copies import making
from trainables.detector.copies.making import copied_tiles, tile_of
from trainables.detector.copies.planning import copied_classes, plan_copies
from trainables.strategy.augmentation import draw_change, turn_image, warp

MINORITY = (1,)
THREE = Augmentation(pretile_copies=3, augment_minority=0.5)
PLAIN = Augmentation(pretile_copies=3)
KILLED = """
import os, signal, sys
from pathlib import Path
from spaces.augmentation import Augmentation
from trainables.data.boxes.data_set import load_detection
from trainables.detector.copies import making

write, left = making.write_tile, [int(sys.argv[2])]

def write_some(*arguments):
    write(*arguments)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

making.write_tile = write_some
asked = Augmentation(pretile_copies=3, augment_minority=0.5)
making.copied_tiles(load_detection(Path(sys.argv[1])), (1,), asked, seed=0)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return draw_tiled(tmp_path)


@pytest.fixture
def data(file: Path) -> BoxData:
    return load_detection(file)


def one_object(root: Path, *, size: int, overlap: int) -> BoxData:
    """Slides with a bright square each on mid-grey; nothing else is as bright."""
    draw_slides(root / "slides", 10, clusters=1, cells=0)
    grid = Grid(size, overlap)
    cut_into(root / "tiles", load_whole(root / "slides"), grid, workers=1, watch=lambda done, total: None)
    return load_detection(root / "tiles" / "data.yaml")


def place_of(image: BoxImage) -> tuple[str, int, int]:
    assert image.tile is not None
    return image.tile.augmented_from or image.tile.source, image.tile.x, image.tile.y


def stored(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file below -> what changes if it is written again."""
    return {
        str(file.relative_to(folder)): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in folder.rglob("*.png")
    }


# Which there are


def test_plain_copies_are_the_tiles_that_hold_a_minority_object_k_times(data: BoxData) -> None:
    originals = {place_of(image): image for image in data.splits["train"] if 1 in image.classes}
    copies = copied_tiles(data, MINORITY, PLAIN, seed=0)
    assert Counter(map(place_of, copies)) == dict.fromkeys(originals, 3)
    for image in copies:
        original = originals[place_of(image)]
        assert image.is_copy
        assert not original.is_copy
        np.testing.assert_array_equal(image.pixels(), original.pixels())
        np.testing.assert_array_equal(image.classes, original.classes)
        np.testing.assert_allclose(image.boxes, original.boxes, atol=1e-4)
        assert image.source == original.source


def test_only_training_images_are_copied_and_every_tile_of_a_copy_holds_a_minority_object(
    data: BoxData,
) -> None:
    copies = copied_tiles(data, MINORITY, THREE, seed=0)
    trained = {name for name, source in data.wholes.items() if source.split == "train"}
    assert {place_of(image)[0] for image in copies} == trained
    assert all(1 in image.classes for image in copies)
    names = {image.tile.source for image in copies if image.tile is not None}
    assert names == {f"{name}#{number}" for name in trained for number in (1, 2, 3)}
    assert len({image.path for image in copies}) == len({image.name for image in copies}) == len(copies)


def test_an_image_without_a_minority_object_has_no_copies(tmp_path: Path) -> None:
    listed = draw_slides(tmp_path / "slides", 10)
    for name in list(listed)[:8]:
        label = (tmp_path / "slides" / name).with_suffix(".txt")
        label.write_text("".join(f"{line}\n" for line in label.read_text().splitlines() if line[0] == "0"))
    whole = load_whole(tmp_path / "slides")
    cut_into(tmp_path / "tiles", whole, GRID, workers=1, watch=lambda done, total: None)
    data = load_detection(tmp_path / "tiles" / "data.yaml")
    held = {name for name, one in data.wholes.items() if one.split == "train" and (one.classes == 1).any()}
    assert {copy.source.name for copy in plan_copies(data, MINORITY, THREE, seed=0)} == held


def test_the_counts_are_known_without_a_pixel(data: BoxData) -> None:
    counted = copied_classes(data, MINORITY, THREE, seed=0)
    made = copied_tiles(data, MINORITY, THREE, seed=0)
    assert counted == [frozenset(image.classes.tolist()) for image in made]
    shutil.rmtree(data.images_in or "")
    assert copied_classes(data, MINORITY, THREE, seed=0) == counted


def test_a_seed_has_its_own_copies_and_always_the_same(data: BoxData) -> None:
    def pixels(seed: int) -> list[bytes]:
        return [image.pixels().tobytes() for image in copied_tiles(data, MINORITY, THREE, seed=seed)]

    first = pixels(0)
    shutil.rmtree(cache_folder() / "copies")
    assert pixels(0) == first
    assert set(pixels(1)).isdisjoint(first)


# That boxes follow the pixels


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_boxes_follow_the_image(strength: float, tmp_path: Path) -> None:
    data = one_object(tmp_path, size=64, overlap=32)
    asked = Augmentation(pretile_copies=8, augment_minority=strength)
    copies = copied_tiles(data, MINORITY, asked, seed=0)
    assert len(copies) > 50
    for image in copies:
        light = image.pixels().astype(int).mean(axis=2)
        ys, xs = np.nonzero(cv2.blur((light > 180).astype(np.float32), (3, 3)) > 0.5)
        shown = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        (box,) = image.boxes * np.tile(image.size[::-1], 2)
        labelled = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
        # A square that is turned by 10 degrees reaches out of the box of the ellipse in it.
        assert np.abs(shown - labelled).max() <= 2 + 4 * strength, (image.name, shown, labelled)


@pytest.mark.parametrize("seed", range(12))
def test_a_part_is_cut_from_the_changed_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    image = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    none = np.zeros((0, 4))
    change = draw_change((HEIGHT, WIDTH), none, strength=1.0, rng=rng, rare=np.zeros(0, dtype=bool))
    turned = turn_image(warp(image[..., ::-1], change.matrix, (HEIGHT, WIDTH)), change.symmetry)
    whole = change.recoloured(np.ascontiguousarray(turned), 120.0)[..., ::-1]
    assert whole.shape[:2] == change.size_after
    for x, y in ((0, 0), (30, 17), (whole.shape[1] - 50, whole.shape[0] - 40)):
        part = tile_of(image, change, (x, y, 50, 40), 120.0)
        # OpenCV's positions are rounded to 1/32 of a pixel.
        away = np.abs(part.astype(int) - whole[y : y + 40, x : x + 50])
        assert away.mean() < 1
        assert away.max() <= 16


def test_of_many_minority_objects_a_copy_loses_few_and_some_are_always_left(tmp_path: Path) -> None:
    draw_slides(tmp_path / "slides", 10, clusters=8, cells=0)
    whole = load_whole(tmp_path / "slides")
    cut_into(tmp_path / "tiles", whole, GRID, workers=1, watch=lambda done, total: None)
    data = load_detection(tmp_path / "tiles" / "data.yaml")
    asked = Augmentation(pretile_copies=8, augment_minority=1.0)
    changes = [copy.change for copy in plan_copies(data, MINORITY, asked, seed=0)]
    assert all(change is not None for change in changes)
    identity = [np.array_equal(change.matrix, np.eye(2, 3)) for change in changes if change is not None]
    assert not any(identity)
    kept = [
        len(change.see(copy.source.boxes)[1])
        for copy in plan_copies(data, MINORITY, asked, seed=0)
        if (change := copy.change) is not None
    ]
    assert min(kept) >= 1
    assert np.mean(kept) > 6


# How they are kept


def test_the_second_trial_finds_the_copies_of_the_first_and_makes_only_what_lacks(
    data: BoxData, cache: Path
) -> None:
    two = copied_tiles(data, MINORITY, replaced(THREE, pretile_copies=2), seed=0)
    before = stored(cache / "copies")
    three = copied_tiles(data, MINORITY, THREE, seed=0)
    after = stored(cache / "copies")
    assert len(before) == len(two) < len(three) == len(after)
    assert before.items() <= after.items()
    assert {image.path for image in two} < {image.path for image in three}


def replaced(augmentation: Augmentation, **changes: float) -> Augmentation:
    return Augmentation.model_validate(augmentation.model_dump() | changes)


def test_trials_that_come_at_once_make_each_tile_once(data: BoxData, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = making.write_tile

    def noted(path: Path, pixels: np.ndarray, grid: Grid) -> None:
        written.append(path)
        write(path, pixels, grid)

    monkeypatch.setattr(making, "write_tile", noted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: copied_tiles(data, MINORITY, THREE, seed=0), range(4)))
    paths = [[image.path for image in images] for images in found]
    assert paths == [paths[0]] * 4
    assert len(written) == len(set(written)) == len(paths[0])


def test_another_strength_another_grid_and_a_changed_image_have_their_own(
    data: BoxData, tmp_path: Path
) -> None:
    def paths(data: BoxData, asked: Augmentation = THREE) -> set[Path]:
        return {image.path for image in copied_tiles(data, MINORITY, asked, seed=0)}

    first = paths(data)
    assert paths(data, replaced(THREE, augment_minority=0.4)).isdisjoint(first)
    assert paths(replace(data, grid=Grid(GRID.size, GRID.overlap - 2))).isdisjoint(first)
    name = next(copy.source.name for copy in plan_copies(data, MINORITY, THREE, seed=0))
    file = tmp_path / "slides" / name
    with Image.open(file) as opened:
        changed = opened.rotate(180)
    changed.save(file)
    again = paths(data)
    assert len(again) == len(first)
    of_file = sum(place_of(image)[0] == name for image in copied_tiles(data, MINORITY, THREE, seed=0))
    assert len(again - first) == of_file > 0


@pytest.mark.parametrize("written", [1, 40])
def test_killed_while_copying_leaves_nothing_half(written: int, file: Path, cache: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(file), str(written)]
    done = subprocess.run(command, cwd=Path.cwd(), env=os.environ, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    left = [folder for folder in (cache / "copies").glob("*/*") if folder.suffix == ".partial"]
    assert len(left) == 1
    copies = copied_tiles(load_detection(file), MINORITY, THREE, seed=0)
    assert all(image.pixels().shape[:2] == image.size for image in copies)
    assert list((cache / "copies").glob("*/*.partial")) == []
    assert len(stored(cache / "copies")) == len(copies)


def test_a_full_disk_leaves_nothing_half(data: BoxData, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, pixels: np.ndarray, grid: Grid) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "write_tile", full)
    with pytest.raises(OSError, match="No space left"):
        copied_tiles(data, MINORITY, THREE, seed=0)
    assert list((cache / "copies").glob("*/*")) == []


# What is refused


def test_data_that_are_no_tiles_are_refused(tiles: Path) -> None:
    with pytest.raises(UsageError, match="pretile_copies: the data are no tiles of whole images"):
        copied_tiles(load_detection(tiles), MINORITY, THREE, seed=0)


def test_whole_images_that_are_gone_or_others_are_named(data: BoxData, tmp_path: Path) -> None:
    name = next(copy.source.name for copy in plan_copies(data, MINORITY, THREE, seed=0))
    file = tmp_path / "slides" / name
    assert data.absent("train") == {}
    pixels = Image.new("RGB", (WIDTH + 1, HEIGHT))
    pixels.save(file)
    with pytest.raises(UsageError, match=rf"{name}: it has {WIDTH + 1} x {HEIGHT} pixels"):
        copied_tiles(data, MINORITY, THREE, seed=0)
    file.unlink()
    assert data.absent("train") == {str(file): frozenset({0, 1})}
    with pytest.raises(UsageError, match=name):
        copied_tiles(data, MINORITY, THREE, seed=0)
