import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainables.data.demo import digits


@pytest.fixture(scope="module")
def splits() -> dict[str, digits.LabelledImages]:
    return digits.load()


def indices(data: digits.LabelledImages) -> np.ndarray:
    return np.array([int(name.removeprefix("digit_")) for name in data.ids])


def test_the_pixels_and_labels_are_scikit_learns(splits: dict[str, digits.LabelledImages]) -> None:
    theirs = load_digits()
    for data in splits.values():
        index = indices(data)
        np.testing.assert_array_equal(data.images, np.rint(theirs.images[index] * 255 / 16))
        np.testing.assert_array_equal(data.labels, theirs.target[index])


def test_no_image_is_in_two_splits(splits: dict[str, digits.LabelledImages]) -> None:
    index = np.concatenate([indices(data) for data in splits.values()])
    assert len(set(index.tolist())) == len(index)


def test_rare_classes_are_rare_in_train_only(splits: dict[str, digits.LabelledImages]) -> None:
    for split, data in splits.items():
        counts = np.bincount(data.labels)
        for class_id, name in enumerate(digits.CLASS_NAMES):
            if split == "train":
                wanted = range(8, 9) if name in digits.RARE else range(85, 95)
            else:
                wanted = range(42, 48)
            assert counts[class_id] in wanted, (split, name)


@pytest.mark.parametrize("split", ["val", "test"])
def test_weights_restore_the_training_prevalence(
    splits: dict[str, digits.LabelledImages], split: str
) -> None:
    data, train = splits[split], splits["train"]
    weighted = np.bincount(data.labels, weights=data.weight) / data.weight.sum()
    np.testing.assert_allclose(weighted, np.bincount(train.labels) / len(train.labels))
    assert data.weight.mean() == pytest.approx(1)


def test_training_images_weigh_one(splits: dict[str, digits.LabelledImages]) -> None:
    np.testing.assert_allclose(splits["train"].weight, 1)


def test_the_summary_counts_what_is_loaded(splits: dict[str, digits.LabelledImages]) -> None:
    summary = digits.describe()
    assert summary.class_names == digits.CLASS_NAMES
    for split, data in splits.items():
        counted = summary.splits[split]
        assert counted.images == counted.sources == len(data.labels)
        assert sum(counted.objects.values()) == counted.images
        assert counted.objects["8"] == (data.labels == 8).sum()
        assert counted.classes_per_image[0] == {int(data.labels[0])}


def test_the_fingerprint_stays_between_versions() -> None:
    # Another fingerprint is other data: studies made before could no longer be resumed.
    assert digits.describe().fingerprint == "2d42ff5a8493365a"


def test_shared_arrays_cannot_be_written(splits: dict[str, digits.LabelledImages]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        splits["train"].images[0] = 0


def test_counting_the_digits_loads_no_heavy_library() -> None:
    code = (
        "import json, sys, trainables.data.demo.digits as d; d.describe(); print(json.dumps([*sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "scipy", "ray", "albumentations"} & set(json.loads(answer.stdout))
