"""A detector's decoded images: made once per node, shared, and the same where there is no room for them."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_detector import EVERYTHING, draw_tiles, tiny_spec
from trials import report_of

from spaces.errors import UsageError
from trainables.data.boxes import stored
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.listed import BoxImage
from trainables.data.boxes.stored import Form, Tiles, fitted, make_ready, needed, square
from trainables.data.mapped import LIMIT
from trainables.detector.feeding.dataset import TileDataset
from trainables.detector.settled import LetterBox, YOLODataset

SIZES = [(64, 64), (40, 64), (64, 33), (100, 37), (37, 100), (201, 199), (13, 12), (64, 11), (3000, 17)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


@pytest.fixture
def images(tmp_path: Path) -> tuple[BoxImage, ...]:
    return load_detection(draw_tiles(tmp_path / "data")).splits["train"]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_and_pixels_are_those_of_ultralytics(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(square(pixels, 64), LetterBox((64, 64))(image=pixels))
    Image.fromarray(pixels[..., ::-1]).save(tmp_path / "one.png")
    plain = YOLODataset(str(tmp_path), imgsz=64, augment=False, data={"names": {0: "a"}, "channels": 3})
    np.testing.assert_array_equal(fitted(pixels, 64), plain.load_image(0)[0])


@pytest.mark.parametrize("form", ["fitted", "square"])
def test_mapped_pixels_are_the_decoded_ones_and_cannot_be_written(
    form: Form, images: tuple[BoxImage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = Tiles(images, form, 48)
    monkeypatch.setenv(LIMIT, "0")
    decoded = Tiles(images[1:], form, 48)  # another set: of the one that is there no room is needed
    assert (mapped.mapped, decoded.mapped) == (True, False)
    for image in images[1:]:
        np.testing.assert_array_equal(mapped(image), decoded(image))
        np.testing.assert_array_equal(mapped.squared(image), square(image.pixels(), 48))
        np.testing.assert_array_equal(decoded.squared(image), square(image.pixels(), 48))
    with pytest.raises(ValueError, match="read-only"):
        mapped(images[0])[0] = 0
    assert Tiles(images, form, 48).mapped


def test_a_training_image_is_measured_as_a_square_whatever_its_shape(tmp_path: Path) -> None:
    (tmp_path / "images" / "train").mkdir(parents=True)
    for i, size in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "train" / f"{i}.png")
    shutil.copytree(tmp_path / "images" / "train", tmp_path / "images" / "val")
    (tmp_path / "data.yaml").write_text("{train: images/train, val: images/val, names: [a]}")
    every = load_detection(tmp_path / "data.yaml").splits["train"]
    tiles = Tiles(every, "fitted", 64)
    for image in every:
        np.testing.assert_array_equal(tiles.squared(image), square(image.pixels(), 64))


def test_hard_links_share_one_place(images: tuple[BoxImage, ...], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "labels" / "train" / "link.txt").write_text("0 0.5 0.5 0.1 0.1")
    os.link(images[0].path, images[0].path.with_name("link.png"))
    more = load_detection(tmp_path / "data" / "data.yaml").splits["train"]
    assert len(more) == len(images) + 1
    assert needed(more, "fitted", 64) == needed(images, "fitted", 64) == 20 * 3 * 64 * 64
    tiles = Tiles(more, "fitted", 64)
    assert sum(file.stat().st_size for file in cache.rglob(stored.PIXELS)) == 20 * 3 * 64 * 64
    for image in more:
        np.testing.assert_array_equal(tiles(image), image.pixels())


def test_an_image_changed_in_place_is_decoded_again(images: tuple[BoxImage, ...], tmp_path: Path) -> None:
    before = Tiles(images, "fitted", 64)(images[0]).copy()
    images[0].path.write_bytes(images[1].path.read_bytes())
    again = load_detection(tmp_path / "data" / "data.yaml").splits["train"]
    np.testing.assert_array_equal(Tiles(again, "fitted", 64)(again[0]), images[1].pixels())
    assert not np.array_equal(before, images[1].pixels())


def test_a_retouched_image_is_decoded_again_though_its_digest_is_the_same(
    images: tuple[BoxImage, ...], tmp_path: Path
) -> None:
    file = images[0].path
    Image.new("RGB", (200, 200)).save(file, format="BMP")
    of_data = tmp_path / "data" / "data.yaml"
    before = load_detection(of_data).splits["train"]
    assert not Tiles(before, "fitted", 200)(before[0]).any()
    content = bytearray(file.read_bytes())
    content[30_000:30_300] = b"\xff" * 300
    file.write_bytes(content)
    after = load_detection(of_data).splits["train"]
    assert after[0].look.digest == before[0].look.digest
    assert Tiles(after, "fitted", 200)(after[0]).any()


def test_an_image_that_has_another_size_now_is_refused(images: tuple[BoxImage, ...]) -> None:
    Image.new("RGB", (30, 64)).save(images[0].path)
    with pytest.raises(UsageError, match="it has changed while it was used"):
        Tiles(images, "fitted", 64)


def test_what_has_no_room_is_told_and_read_when_it_is_asked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_detection(draw_tiles(tmp_path / "data"))
    monkeypatch.setenv(LIMIT, str(20 * 3 * 64 * 64 * 1.2 / 2**30))  # for train alone
    (said,) = make_ready(data, ("train", "val"), 64)
    assert said.startswith("decoded, the images of val take 0.0 GiB, and the cache has room for 0.0 GiB")
    assert len(list(cache.rglob(stored.PIXELS))) == 1
    monkeypatch.delenv(LIMIT)
    assert make_ready(data, ("train", "val"), 64) == []


def test_a_limit_that_is_no_number_is_refused(
    images: tuple[BoxImage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(UsageError, match="RARECALL_CACHE_GB: a number of GiB expected, got 'much'"):
        Tiles(images, "fitted", 64)


def test_a_full_disk_is_no_room(
    images: tuple[BoxImage, ...], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not Tiles(images, "fitted", 64).mapped
    assert {path.suffix for path in cache.iterdir()} == {".lock", ".used"}


def _mapped_bytes(images: tuple[BoxImage, ...], start: "multiprocessing.synchronize.Barrier") -> None:
    start.wait()
    tiles = Tiles(images, "fitted", 64)
    assert tiles.mapped
    assert all(np.array_equal(tiles(image), image.pixels()) for image in images)


def test_processes_that_start_at_once_fill_one_file(images: tuple[BoxImage, ...], cache: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    started = [spawn.Process(target=_mapped_bytes, args=(images, start)) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert len(list(cache.rglob(stored.PIXELS))) == 1


def test_another_process_gets_the_file_and_not_the_pixels(images: tuple[BoxImage, ...]) -> None:
    tiles = Tiles(images, "fitted", 64)
    sent = pickle.dumps(tiles)
    assert len(sent) < 3 * 64 * 64
    np.testing.assert_array_equal(pickle.loads(sent)(images[3]), images[3].pixels())


def test_a_data_set_keeps_no_pixels_of_its_own(images: tuple[BoxImage, ...]) -> None:
    plain = TileDataset(images, Tiles(images, "fitted", 64), imgsz=64, data={"names": {0: "a"}})
    for i in range(len(images)):
        plain.load_image(i)
    assert all(kept is None for kept in plain.ims)


def test_a_run_is_the_same_from_the_file_and_from_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec(draw_tiles(tmp_path / "data"), EVERYTHING)
    mapped = report_of(spec, tmp_path / "mapped")
    shutil.rmtree(tmp_path / "cache" / "pixels")
    monkeypatch.setenv(LIMIT, "0")
    decoded = report_of(spec, tmp_path / "decoded")
    assert (mapped.applied["pixels"], decoded.applied["pixels"]) == ("mapped", "decoded as drawn")
    assert mapped.metrics == decoded.metrics
    assert mapped.exposure == decoded.exposure
