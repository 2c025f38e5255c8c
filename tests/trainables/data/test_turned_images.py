"""Each format with each EXIF orientation: sizes, boxes and pixels agree wherever an image is read.

A picture shows where up is: its four quarters have four brightnesses. It is stored turned, so that its EXIF
orientation turns it back.
"""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from detection_files import coco, write_coco
from PIL import Image
from tiny_detector import set_up, tiny_spec
from ultralytics import YOLO
from ultralytics.utils.patches import imread

from search.export.contents import standalone
from trainables.contract.predictions import DetectionPredictions
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.stored import Tiles
from trainables.data.images.decoding import decode
from trainables.detector.measuring.squares import Squares

HEIGHT, WIDTH = 48, 64
QUARTERS = np.array([[30, 90], [150, 230]])  # as they are shown
SHOWN = np.kron(QUARTERS, np.ones((HEIGHT // 2, WIDTH // 2))).astype(np.uint8)
# Orientation -> what a camera that was held so stores of what is shown.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}
FORMATS = {"jpg": {"quality": 98}, "png": {}, "webp": {"lossless": True}, "tif": {}, "lzw.tif": {}}
CASES = [(suffix, orientation) for suffix in FORMATS for orientation in STORED]
CLUSTER = "1 0.75 0.75 0.5 0.5"  # the brightest quarter


def save_turned(file: Path, suffix: str, orientation: int, mode: str) -> None:
    """`SHOWN` in a file that has to be turned to show it."""
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](SHOWN))).convert(mode)
    if suffix.endswith("tif"):
        how: dict[str, Any] = {"compression": "tiff_lzw"} if suffix == "lzw.tif" else {}
        image.save(file, tiffinfo={274: orientation}, **how)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        image.save(file, exif=exif, **FORMATS[suffix])


def quarters(pixels: np.ndarray) -> np.ndarray:
    """The brightness of the middle of each quarter; pixels are (height, width) or (height, width, 3)."""
    height, width = pixels.shape[:2]
    rows, columns = [height // 4, 3 * height // 4], [width // 4, 3 * width // 4]
    return np.asarray(pixels.reshape(height, width, -1)[..., 0][np.ix_(rows, columns)], dtype=int)


def check_upright(pixels: np.ndarray, name: str) -> None:
    np.testing.assert_allclose(quarters(pixels), QUARTERS, atol=6, err_msg=name)


@pytest.fixture(scope="module", params=["RGB", "L"])
def turned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of all cases, in train and in val."""
    root = tmp_path_factory.mktemp(f"turned_{request.param}")
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for suffix, orientation in CASES:
            stem = f"{suffix.replace('.', '_')}_{orientation}"
            file = root / "images" / split / f"{stem}.{suffix.rpartition('.')[2]}"
            save_turned(file, suffix, orientation, request.param)
            (root / "labels" / split / f"{stem}.txt").write_text(f"{CLUSTER}\n0 0.25 0.25 0.25 0.25")
    described = {split: f"images/{split}" for split in ("train", "val")} | {"names": ["cell", "cluster"]}
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    return root / "data.yaml"


def test_a_detectors_sizes_and_pixels_are_those_that_are_shown(turned: Path) -> None:
    data = load_detection(turned)
    images = [image for split in data.splits.values() for image in split]
    assert len(images) == 2 * len(CASES)
    for image in images:
        assert image.size == (HEIGHT, WIDTH), image.name
        check_upright(image.pixels(), image.name)
        np.testing.assert_array_equal(image.pixels(), imread(str(image.path)), err_msg=image.name)


def test_training_and_evaluation_see_them_upright(turned: Path, tmp_path: Path) -> None:
    run = set_up(tiny_spec(turned, {}), tmp_path)
    tiles = run.train_loader.dataset
    for i, image in enumerate(tiles.images):
        tile = tiles.tile(i)
        check_upright(tile.image, image.name)
        np.testing.assert_allclose(tile.boxes[0] / 64, [0.5, 0.375, 1, 0.75], err_msg=image.name)
        assert tiles.labels[i]["shape"] == (HEIGHT, WIDTH)
    val = run.yolo.splits["val"]
    squares = Squares(val, Tiles(val, "square", 64))
    for i, image in enumerate(val):
        assert squares.shape(i) == (HEIGHT, WIDTH)
        check_upright(squares[i][1].numpy()[0][8:56], image.name)  # without the borders of a square


def test_predictions_lie_in_the_pixels_that_are_shown(turned: Path, tmp_path: Path) -> None:
    predicted = set_up(tiny_spec(turned, {}), tmp_path).predict_split("val")
    assert isinstance(predicted, DetectionPredictions)
    assert predicted.size.tolist() == [[HEIGHT, WIDTH]] * len(predicted.image)
    clusters = predicted.true_box[predicted.true_class == 1]
    assert clusters.tolist() == [[WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT]] * len(predicted.image)


def test_plain_ultralytics_sees_them_so_too(turned: Path) -> None:
    model = YOLO("yolo11n.yaml")
    for image in load_detection(turned).splits["val"]:
        (result,) = model.predict(image.path, verbose=False, imgsz=64)
        assert result.orig_shape == image.size
        check_upright(result.orig_img, image.name)


def test_a_classifier_and_its_exported_script_see_them_upright(turned: Path) -> None:
    script: dict[str, Any] = {"__name__": "predict", "__file__": str(turned)}
    template = files("search.export.contents") / "templates" / "classifier.py"
    exec(compile(template.read_text(), standalone.SCRIPT, "exec"), script)
    for image in load_detection(turned).splits["val"]:
        check_upright(decode(image.path, 64, 3), str(image.path))
        check_upright(script["decode"](image.path, 64, 1), str(image.path))


def test_a_coco_file_says_the_size_that_is_shown(tmp_path: Path) -> None:
    names = [f"{orientation}.tif" for orientation in STORED]
    boxes = {
        name: [(7, [0, 0, 8, 8]), (90, [WIDTH / 2, HEIGHT / 2, WIDTH / 2, HEIGHT / 2])] for name in names
    }
    stored = coco(boxes)
    for entry in stored["images"]:
        entry.update(width=WIDTH, height=HEIGHT)
    file = write_coco(tmp_path, "all.json", stored)
    for orientation, name in zip(STORED, names, strict=True):
        save_turned(tmp_path / name, "tif", orientation, "RGB")
    images = [image for split in load_detection(file).splits.values() for image in split]
    assert len(images) == len(STORED)
    for image in images:
        np.testing.assert_allclose(image.boxes[image.classes == 1], [[0.75, 0.75, 0.5, 0.5]])
