"""Decoded images: made once, whole or not at all, shared by all processes of a node."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from decoding_processes import SIDE, count_and_store, decoded, store_and_die
from drawn_images import cut_short, write_folder

from spaces.errors import UsageError
from trainables.data.images.cache import stored_pixels
from trainables.data.images.data_set import ClassificationData, load_classification
from trainables.data.images.decoding import decode
from trainables.data.sources import images_of

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def data(tmp_path: Path) -> ClassificationData:
    return load_classification(
        write_folder(tmp_path / "data", {"train/a": 6, "train/b": 3, "val/a": 2, "val/b": 2})
    )


def test_the_stored_images_are_the_decoded_ones_and_cannot_be_written(data: ClassificationData) -> None:
    stored = stored_pixels(data, SIDE)
    np.testing.assert_array_equal(stored.pixels, decoded(data))
    assert stored.readable.all()
    with pytest.raises(ValueError, match="read-only"):
        stored.pixels[0] = 0


def test_images_that_are_all_grey_are_stored_in_one_channel(tmp_path: Path) -> None:
    grey = {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1}
    data = load_classification(write_folder(tmp_path / "grey", grey, mode="L"))
    np.testing.assert_array_equal(stored_pixels(data, SIDE).pixels, decoded(data, channels=1))
    write_folder(tmp_path / "grey", {"test/a": 1})
    assert stored_pixels(load_classification(tmp_path / "grey"), SIDE).pixels.shape == (9, SIDE, SIDE, 3)


def test_each_split_has_its_images_labels_and_groups(tmp_path: Path, data: ClassificationData) -> None:
    loaded = images_of(str(data.source), SIDE)
    assert (loaded.class_names, loaded.channels, loaded.unreadable) == (("a", "b"), 3, 0)
    assert {split: images.labels.tolist() for split, images in loaded.splits.items()} == {
        "train": [0] * 6 + [1] * 3,
        "val": [0, 1],
        "test": [0, 1],
    }
    for split, images in loaded.splits.items():
        assert images.ids.tolist() == images.sources.tolist() == [image.name for image in data.splits[split]]
        for name, pixels in zip(images.ids, images.images, strict=True):
            np.testing.assert_array_equal(pixels, decode(data.source / name, SIDE, 3))


def test_an_image_changed_in_place_is_decoded_again(data: ClassificationData) -> None:
    before = stored_pixels(data, SIDE).pixels
    first, second = data.files()[:2]
    content = second.path.read_bytes()
    first.path.write_bytes(content)
    changed = stored_pixels(load_classification(data.source), SIDE).pixels
    np.testing.assert_array_equal(changed[0], before[1])
    assert not np.array_equal(before[0], before[1])


def test_unreadable_images_are_left_out_wherever_they_lie(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train/a": 150, "train/b": 40, "val/a": 5, "val/b": 5})
    for name in ("train/a/003.jpg", "val/a/002.jpg"):
        cut_short(root / name)
    loaded = images_of(str(root), SIDE)
    assert loaded.unreadable == 2
    assert sum(len(images.labels) for images in loaded.splits.values()) == 198
    assert len(loaded.splits["train"].labels) == 189
    for images in loaded.splits.values():
        for name, pixels in zip(images.ids, images.images, strict=True):
            np.testing.assert_array_equal(pixels, decode(root / name, SIDE, 3))
    cut_short(root / "train/b/000.jpg")
    with pytest.raises(UsageError, match="3 of 200 images cannot be read"):
        stored_pixels(load_classification(root), SIDE)


def test_processes_that_start_at_once_decode_each_image_once(
    tmp_path: Path, data: ClassificationData
) -> None:
    start = SPAWN.Barrier(2)
    started = [SPAWN.Process(target=count_and_store, args=(data, tmp_path / "log", start)) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(line.split(" ", 1)[1] for line in lines) == sorted(
        str(image.path) for image in data.files()
    )
    assert len({line.split(" ", 1)[0] for line in lines}) == 1


def test_what_a_killed_process_leaves_is_made_anew(cache: Path, data: ClassificationData) -> None:
    killed = SPAWN.Process(target=store_and_die, args=(data,))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [".tmp"]
    np.testing.assert_array_equal(stored_pixels(data, SIDE).pixels, decoded(data))
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [""]


def test_a_full_disk_is_an_error_that_says_what_to_do(
    data: ClassificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UsageError, match=r"no room for .*No space left") as refused:
        stored_pixels(data, SIDE)
    assert refused.value.hint == "set RARECALL_CACHE to a folder on a larger disk"


# A trial that has read all its training images, and waits.
READER = """
import sys
import numpy as np
from spaces.strategy import PLAIN
from trainables.classifier.trainer import _Run
from trainables.contract.trial import DataSpec, TrainSpec, TrialSpec
spec = TrialSpec(task="classification", strategy=PLAIN, data=DataSpec(source=sys.argv[1], minority=("b",)),
    train=TrainSpec(model="small_cnn", imgsz=128, batch=8, steps=1, eval_every=1), seed=int(sys.argv[2]))
run = _Run(spec)
print("imported", flush=True)
sys.stdin.readline()
rows = np.arange(len(run.strategy.kept))
seen = sum(int(run.parts_of_run.images(some, 0, 0).sum()) for some in np.array_split(rows, 50))
print(seen, flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_three_trials_of_a_node_hold_their_images_once(tmp_path: Path) -> None:
    counts = {"train/a": 1500, "train/b": 300, "val/a": 10, "val/b": 10}
    root = write_folder(tmp_path / "data", counts)
    size = stored_pixels(load_classification(root), 128).pixels.nbytes  # 89 MB
    one, three = image_memory(root, 1), image_memory(root, 3)
    assert 0.9 * size < one < 1.2 * size
    assert three < 1.2 * one


def image_memory(root: Path, trials: int) -> int:
    """Bytes that so many trials at once need to read all images: shared pages once, private ones each."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(root), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for seed in range(trials)
    ]
    total = 0
    for sign in (-1, 1):
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline()
        total += sign * sum(psutil.Process(process.pid).memory_full_info().pss for process in started)
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
    for process in started:
        process.communicate()
        assert process.returncode == 0
    return total
