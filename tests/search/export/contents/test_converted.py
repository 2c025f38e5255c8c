"""Weights as ONNX and TorchScript: the bundle's script finds with them what it finds with `weights.pt`.

Neither needs Ultralytics, and ONNX no torch, when it is used.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import bundle_of, found_by
from same_boxes import assert_same_boxes, coco_rows
from tiny_detector import draw_tiles, tiny_spec
from trials import report_of

from search.export.contents.converting import check_formats, convert
from spaces.errors import RunError, UsageError
from trainables.contract.predictions import DetectionPredictions, load_predictions

FORMATS = [
    pytest.param("torchscript", ("ultralytics",), id="TorchScript"),
    pytest.param("onnx", ("torch", "torchvision", "ultralytics", "onnx"), id="ONNX"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles that are neither square nor of the network's size."""
    file = draw_tiles(tmp_path_factory.mktemp("data"), {"train": 16, "val": 20}, rare_every=3)
    for i, image in enumerate(sorted((file.parent / "images").rglob("*.png"))):
        size = [(80, 52), (47, 71), (64, 64)][i % 3]
        cv2.imwrite(str(image), cv2.resize(cv2.imread(str(image)), size))
    return file


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    report_of(tiny_spec(data, {"sampler_power": 1.0}, imgsz=96, steps=90, eval_every=90, lr=0.01), root)
    return bundle_of(root / "result", root / "bundle")


@pytest.mark.parametrize(("kind", "lacking"), FORMATS)
def test_a_detector_finds_the_same(
    kind: str, lacking: tuple[str, ...], bundle: Path, data: Path, tmp_path: Path
) -> None:
    convert(bundle, {kind})
    measured = load_predictions(bundle / "predictions.npz")
    assert isinstance(measured, DetectionPredictions)
    shipped = measured.shipped
    assert shipped is not None
    assert len(set(shipped.label.tolist())) == 2
    options = ("--weights", str(bundle / f"weights.{kind}"), "--no-pictures")
    # More images than the two that it was traced with.
    found = found_by(bundle, data.parent / "images" / "val", tmp_path / "out", *options, lacking=lacking)
    for i, name in enumerate(measured.image.tolist()):
        mine = shipped.image == i
        wanted = np.column_stack([shipped.label[mine], shipped.score[mine], shipped.box[mine]])
        assert_same_boxes(coco_rows(found, Path(name).name), wanted)


def test_a_package_that_is_lacking_is_named_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.export.contents.converting.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--onnx: onnx and onnxruntime not installed") as raised:
        check_formats({"onnx"})
    assert "[onnx]" in raised.value.hint
    check_formats({"torchscript"})


def test_weights_that_are_none_are_not_converted_and_say_why(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    for name in ("predict.py", "networks.py", "convert.py"):
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    (tmp_path / "carried").symlink_to(bundle / "carried")
    with pytest.raises(RunError, match="--torchscript: the network cannot be written so: "):
        convert(tmp_path, {"torchscript"})
