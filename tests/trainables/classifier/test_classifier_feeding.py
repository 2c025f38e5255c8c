"""What a classifier is fed depends on the seed and the place in the run, not on who makes it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_images import write_folder

from spaces.strategy import Strategy
from trainables.classifier.feeding import Parts, fed
from trainables.classifier.trainer import _Run
from trainables.contract.trial import DataSpec, TrainSpec, TrialSpec

KNOBS = {"sampler_power": 0.5, "augment_minority": 1.0, "augment_rest": 0.3, "defer": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train/a": 20, "train/b": 8, "val/a": 4, "val/b": 4}
    return write_folder(tmp_path_factory.mktemp("fed") / "data", counts)


def parts(data: Path, **train: int) -> Parts:
    usual = {"model": "small_cnn", "imgsz": 16, "batch": 8, "steps": 12, "eval_every": 3, "accumulate": 2}
    spec = TrialSpec(
        task="classification",
        strategy=Strategy.from_knobs(KNOBS),
        data=DataSpec(source=str(data), minority=("b",)),
        train=TrainSpec.model_validate(usual | train),
        seed=3,
    )
    return _Run(spec).parts_of_run


def same(
    one: Iterator[tuple[np.ndarray, torch.Tensor]], other: Iterator[tuple[np.ndarray, torch.Tensor]]
) -> int:
    """How many parts were compared."""
    compared = 0
    for (index, images), (others, pixels) in zip(one, other, strict=True):
        np.testing.assert_array_equal(index, others)
        assert torch.equal(images, pixels)
        compared += 1
    return compared


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_loaders_makes_the_same_parts(workers: int, data: Path) -> None:
    alone = fed(parts(data), 0, on_gpu=False, workers=0)
    assert same(alone, fed(parts(data), 0, on_gpu=False, workers=workers)) == 24


def test_a_run_that_goes_on_is_fed_what_is_left(data: Path) -> None:
    every = list(fed(parts(data), 0, on_gpu=False))
    assert same(iter(every[12:]), fed(parts(data), 2, on_gpu=False)) == 12


def test_the_parts_of_a_batch_are_the_batch(data: Path) -> None:
    halves, wholes = parts(data), parts(data, accumulate=1)
    assert len(halves) == 2 * len(wholes)
    for number in range(len(wholes)):
        (first, left), (second, right) = halves[2 * number], halves[2 * number + 1]
        index, images = wholes[number]
        np.testing.assert_array_equal(np.concatenate([first, second]), index)
        np.testing.assert_array_equal(np.concatenate([left, right]), images)


def test_loaders_leave_torchs_own_generator_alone(data: Path) -> None:
    made = parts(data)
    before = torch.get_rng_state()
    list(fed(made, 0, on_gpu=False, workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_each_draw_of_an_image_is_transformed_in_its_own_way(data: Path) -> None:
    made = parts(data)
    image = np.zeros(4, dtype=np.int64) + int(np.flatnonzero(made._rare)[0])
    batch = made.images(image, 3, 0)
    assert len({one.tobytes() for one in batch}) == 4
    np.testing.assert_array_equal(batch[2:], made.images(image[2:], 3, 2))


def test_loaders_pickle_no_images_whatever_python_starts_processes_with(data: Path, forkserver: None) -> None:
    made = parts(data)
    made.__reduce_ex__ = None  # type: ignore[assignment, method-assign]
    alone = fed(parts(data), 0, on_gpu=False, workers=0)
    assert same(alone, fed(made, 0, on_gpu=False, workers=1)) == 24
