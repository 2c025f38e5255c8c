"""A detector on tiles: what it finds on objects that a cut hid is kept, and does not count."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_detector import tiny_spec
from trials import report_of
from whole_images import boxes, noise, yolo_text

from trainables.contract.predictions import DetectionPredictions, load_predictions
from trainables.data.boxes.cutting import Grid
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.listed import BoxImage
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import cut_into
from trainables.evaluation.matching import match

SIDE = 64
HUGE = (1, [8, 5, 150, 140])  # no tile shows 40 % of it; what is hardly trained finds boxes as large as tiles
CUT = (1, [60, 20, 16, 16])  # a cluster: the first tile shows a quarter of it, the second, from 48 on, all


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of the tiles of twelve slides, all with a cluster that a border cuts."""
    root = tmp_path_factory.mktemp("slides")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RARECALL_CACHE", str(root / "cache"))
        (root / "slides").mkdir()
        (root / "slides" / "classes.txt").write_text("cell\ncluster\n")
        for i in range(12):
            Image.fromarray(noise(i)).save(root / "slides" / f"s{i}.png")
            (root / "slides" / f"s{i}.txt").write_text(yolo_text([CUT, *[HUGE] * (i % 3 > 0), *boxes(i)]))
        whole = load_whole(root / "slides")
        cut_into(root / "tiles", whole, Grid(SIDE, 16), workers=1, watch=lambda done, total: None)
    return root / "tiles" / "data.yaml"


def test_a_tile_knows_what_the_cut_hid(tiles: Path) -> None:
    data = load_detection(tiles)
    first = [image for image in data.splits["train"] if image.tile is not None and image.tile.x == 0]
    first = [image for image in first if image.tile is not None and image.tile.y == 0]
    for image in first:
        at = [box.tolist() for box in image.hidden_boxes[image.hidden_classes == 1]]
        assert [60, 20, 64, 36] in at
    hidden = [box for images in data.splits.values() for image in images for box in image.hidden_boxes]
    assert np.min(hidden) >= 0
    assert np.max(hidden) <= SIDE
    # Hidden and labelled objects are, together, all that a tile shows some of.
    for source in data.wholes.values():
        pieces = source.pieces()
        for i, tile in enumerate(source.tiles):
            (image,) = [image for image in data.splits[tile.split] if image.name == tile.name]
            assert len(image.classes) + len(image.hidden_classes) == (pieces.window == i).sum()


def counts(image: BoxImage, label: int, box: np.ndarray) -> bool:
    """Whether a box that hits nothing counts as a false one, one hidden object after the other."""
    for class_id, part in zip(image.hidden_classes, image.hidden_boxes, strict=True):
        low, high = np.maximum(box[:2], part[:2]), np.minimum(box[2:], part[2:])
        inside = max(0, high[0] - low[0]) * max(0, high[1] - low[1])
        if class_id == label and 2 * inside >= (box[2] - box[0]) * (box[3] - box[1]):
            return False
    return True


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_run_on_tiles_says_what_is_ignored(tiles: Path, tmp_path: Path, split: str) -> None:
    spec = tiny_spec(tiles, {}, split="test" if split == "test" else "val")
    report = report_of(spec, tmp_path)
    p = load_predictions(tmp_path / "result" / "predictions.npz")
    assert isinstance(p, DetectionPredictions)
    images = load_detection(tiles).splits[split]
    assert [image.name for image in images] == p.image.tolist()
    assert 0 < p.pred_ignored.sum() < len(p.pred_ignored)
    for i in np.flatnonzero(~p.pred_match.any(axis=1)):
        expected = not counts(images[p.pred_image[i]], int(p.pred_class[i]), p.pred_box[i].astype(float))
        assert p.pred_ignored[i] == expected
    assert not (p.pred_ignored & p.pred_match.any(axis=1)).any()
    assert p.shipped is not None
    assert len(p.shipped.ignored) == len(p.shipped.image)
    false = ~p.shipped.match & ~p.shipped.ignored & (p.shipped.label == 1)
    assert report.metrics["deployed/false_alarms"] == pytest.approx(false.sum() / len(images))


def test_what_has_no_tiles_ignores_nothing(tiles: Path, tmp_path: Path) -> None:
    """The same images and labels without the whole images' truth."""
    (tmp_path / "plain").mkdir()
    for name in ("images", "labels"):
        (tmp_path / "plain" / name).symlink_to(tiles.parent / name)
    (tmp_path / "plain" / "data.yaml").write_text(tiles.read_text())
    data = load_detection(tmp_path / "plain" / "data.yaml")
    assert all(len(image.hidden_classes) == 0 for images in data.splits.values() for image in images)
    report_of(tiny_spec(tmp_path / "plain" / "data.yaml", {}), tmp_path)
    p = load_predictions(tmp_path / "result" / "predictions.npz")
    assert isinstance(p, DetectionPredictions)
    assert not p.pred_ignored.any()
    truth = p.true_image, p.true_class, p.true_box
    again = match(p.pred_image, p.pred_class, p.pred_score, p.pred_box, *truth)
    np.testing.assert_array_equal(p.pred_match, again)
