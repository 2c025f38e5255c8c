"""A data set of tiles: what is written, that the reader takes it as it is, and that it can be read back."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from whole_images import Boxes, write_slides, write_whole_splits

from spaces.errors import UsageError
from trainables.data.boxes.cutting import stems
from trainables.data.boxes.data_set import describe_detection, load_detection
from trainables.data.boxes.decoding import read_pixels
from trainables.data.boxes.tiles import Tiles, read_tiles
from trainables.data.boxes.tiling import Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import Tiled, cut_into

GRID = Grid(64, 16)  # 4 x 3 tiles of a 200 x 150 image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


def tile(images: Path, out: Path, grid: Grid = GRID, group_by: str | None = None) -> Tiled:
    data = load_whole(images, group_by=group_by)
    return cut_into(out, data, grid, workers=1, watch=lambda done, total: None)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stored:
        return list(csv.DictReader(stored))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, Boxes]]:
    """Eight slides as tiles."""
    listed = write_slides(tmp_path / "slides")
    tile(tmp_path / "slides", tmp_path / "out")
    return tmp_path / "out", listed


def read(out: Path) -> Tiles:
    tiles = read_tiles(out / "data.yaml")
    assert tiles is not None
    return tiles


def test_the_reader_takes_it_as_it_is(made: tuple[Path, dict[str, Boxes]], tmp_path: Path) -> None:
    out, _ = made
    data = load_detection(out / "data.yaml")
    whole = load_whole(tmp_path / "slides")
    assert data.class_names == ("cell", "cluster")
    assert data.mended == {}
    assert data.warnings == ()
    assert not data.test_from_val
    for split, images in whole.splits.items():
        assert {tile.source for tile in data.splits[split]} == {image.name for image in images}
        assert len(data.splits[split]) == 12 * len(images)
    assert describe_detection(out / "data.yaml").shared_sources == {}


def test_tiles_are_the_whole_image_to_the_pixel(made: tuple[Path, dict[str, Boxes]], tmp_path: Path) -> None:
    out, listed = made
    assert len(read(out).sources) == len(listed) == 8
    for name, source in read(out).sources.items():
        whole = read_pixels(tmp_path / "slides" / name)
        assert whole is not None
        assert len(source.tiles) == 12
        for tile in source.tiles:
            shown = whole[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
            np.testing.assert_array_equal(read_pixels(out / tile.name), shown)


def test_labels_and_tables_say_the_same(made: tuple[Path, dict[str, Boxes]]) -> None:
    """Back in the whole image, each label is the part of one object that its tile shows."""
    out, listed = made
    images = {
        image.name: image for split in load_detection(out / "data.yaml").splits.values() for image in split
    }
    by_tile: dict[str, list[dict[str, str]]] = {name: [] for name in images}
    for row in rows(out / "objects.csv"):
        by_tile[row["image"]].append(row)
    manifest = rows(out / "manifest.csv")
    assert {row["image"] for row in manifest} == set(images)
    seen_whole = set()
    for row in manifest:
        x, y, wide, high = (int(row[key]) for key in ("x", "y", "width", "height"))
        kept = [piece for piece in by_tile[row["image"]] if piece["kept"] == "1"]
        image = images[row["image"]]
        assert int(row["objects/cell"]) + int(row["objects/cluster"]) == len(kept) == len(image.classes)
        for piece, class_id, box in zip(kept, image.classes, image.boxes.astype(float), strict=True):
            true_class, (left, top, w, h) = listed[row["source"]][int(piece["object"])]
            shown = [max(left, x), max(top, y), min(left + w, x + wide), min(top + h, y + high)]
            part = (shown[2] - shown[0]) * (shown[3] - shown[1]) / (w * h)
            assert part == pytest.approx(float(piece["visible"]), abs=1e-6)
            assert part >= 0.4
            assert (class_id, piece["class"]) == (true_class, ("cell", "cluster")[true_class])
            centre, sides = box[:2] * (wide, high) + (x, y), box[2:] * (wide, high)
            np.testing.assert_allclose(np.hstack([centre - sides / 2, centre + sides / 2]), shown, atol=1e-3)
            if part == 1:
                seen_whole.add((row["source"], int(piece["object"])))
        assert all(float(piece["visible"]) < 0.4 for piece in by_tile[row["image"]] if piece not in kept)
    small = {
        (name, i) for name, held in listed.items() for i, (_, box) in enumerate(held) if max(box[2:]) <= 16
    }
    assert len(small) > 5
    assert small <= seen_whole


def test_the_truth_is_the_whole_images(made: tuple[Path, dict[str, Boxes]], tmp_path: Path) -> None:
    out, listed = made
    truth = json.loads((out / "whole.json").read_text())
    assert truth["info"]["images_in"] == str(tmp_path / "slides")
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    found: dict[str, Boxes] = {name: [] for name in listed}
    for entry in truth["annotations"]:
        found[names[entry["image_id"]]].append((entry["category_id"] - 1, entry["bbox"]))
    assert found == listed
    assert min(entry["id"] for entry in truth["annotations"]) == 1  # pycocotools takes 0 for none
    # It is a COCO json like any other.
    assert len(load_whole(tmp_path / "slides", out / "whole.json").splits["train"]) > 0


def test_sources_read_back_know_what_their_tiles_show(made: tuple[Path, dict[str, Boxes]]) -> None:
    out, listed = made
    in_tables = {(row["image"], int(row["object"]), row["kept"] == "1") for row in rows(out / "objects.csv")}
    found = set()
    for name, source in read(out).sources.items():
        sides = source.boxes[:, 2:] - source.boxes[:, :2]
        assert np.hstack([source.boxes[:, :2], sides]).tolist() == [box for _, box in listed[name]]
        assert source.classes.tolist() == [class_id for class_id, _ in listed[name]]
        pieces = source.pieces()
        for window, index, kept in zip(pieces.window, pieces.object, pieces.kept, strict=True):
            found.add((source.tiles[window].name, int(index), bool(kept)))
    assert found == in_tables


def test_counts(tmp_path: Path) -> None:
    listed = write_slides(tmp_path / "slides")
    (tmp_path / "slides" / "s7.txt").unlink()
    counts = tile(tmp_path / "slides", tmp_path / "out").counts
    pieces = rows(tmp_path / "out" / "objects.csv")
    assert sum(count.images for count in counts.values()) == 8
    assert sum(count.without for count in counts.values()) == 1
    assert sum(count.tiles for count in counts.values()) == 96
    assert sum(count.objects.sum() for count in counts.values()) == 12 * (len(listed) - 1)
    for key, kept in (("labelled", "1"), ("dropped", "0")):
        by_class = sum(getattr(count, key) for count in counts.values())
        expected = [
            sum(row["kept"] == kept and row["class"] == name for row in pieces)
            for name in ("cell", "cluster")
        ]
        assert by_class.tolist() == expected
    labels = [*(tmp_path / "out" / "labels").rglob("*.txt")]
    assert sum(count.tiles - count.empty for count in counts.values()) == len(labels)
    assert all(count.unseen.sum() == 0 for count in counts.values())


def test_an_object_that_no_tile_shows_enough_of_is_counted(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides")
    (tmp_path / "slides" / "s0.txt").write_text("1 0.5 0.5 1 1\n")  # all of the image
    counts = tile(tmp_path / "slides", tmp_path / "out").counts
    assert sum(count.unseen for count in counts.values()).tolist() == [0, 1]


@pytest.mark.parametrize("splits", [{"train": 4, "val": 4}, {"train": 3, "val": 2, "test": 2}])
def test_given_splits_are_kept(tmp_path: Path, splits: dict[str, int]) -> None:
    file = write_whole_splits(tmp_path / "set", splits)
    tile(file, tmp_path / "out")
    tiles = read(tmp_path / "out").sources
    for name, source in tiles.items():
        given = name.split("/")[1]
        assert source.split == given or (given, source.split) == ("val", "test")
    assert len({source.split for source in tiles.values()}) == 3


def test_no_group_is_in_two_splits_and_the_reader_knows_the_groups(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides", n=12)
    for i in range(12):  # two slides of a patient
        for suffix in (".png", ".txt"):
            place = tmp_path / "slides" / f"s{i}{suffix}"
            place.rename(place.with_name(f"p{i // 2}_s{i}{suffix}"))
    tile(tmp_path / "slides", tmp_path / "out", group_by=r"(p\d+)_.*")
    groups: dict[str, set[str]] = {}
    for source in read(tmp_path / "out").sources.values():
        groups.setdefault(source.group, set()).add(source.split)
    assert len(groups) == 6
    assert all(len(splits) == 1 for splits in groups.values())
    data = load_detection(tmp_path / "out" / "data.yaml")
    assert {image.source for images in data.splits.values() for image in images} == set(groups)


def test_jpeg_and_grey(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides")
    pixels = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (150, 200), dtype=np.uint8), (9, 9), 0
    )
    cv2.imwrite(str(tmp_path / "slides" / "s0.png"), pixels)
    tile(tmp_path / "slides", tmp_path / "png")
    tile(tmp_path / "slides", tmp_path / "jpeg", Grid(64, 16, jpeg=True))
    (first,) = (tmp_path / "png").rglob("s0_x0_y0.png")
    assert cv2.imread(str(first), cv2.IMREAD_UNCHANGED).shape == (64, 64)
    np.testing.assert_array_equal(read_pixels(first), np.repeat(pixels[:64, :64, None], 3, axis=2))
    (first,) = (tmp_path / "jpeg").rglob("s0_x0_y0.jpg")
    close = read_pixels(first)
    assert close is not None
    assert np.abs(close[..., 0].astype(int) - pixels[:64, :64]).mean() < 2
    assert not [*(tmp_path / "jpeg").rglob("*.png")]


def test_an_image_smaller_than_a_tile_is_one_smaller_tile(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides")
    tile(tmp_path / "slides", tmp_path / "out", Grid(640, 64))
    for source in read(tmp_path / "out").sources.values():
        (only,) = source.tiles
        assert (only.x, only.y, only.width, only.height) == (0, 0, 200, 150)
    assert load_detection(tmp_path / "out" / "data.yaml").splits["train"][0].size == (150, 200)


def test_names_of_tiles_are_their_sources_or_differ() -> None:
    plain, *others = stems(["a/s0.png", "a/s1.png", "b/s1.png", "b/S1.tif", "images.png"])
    assert plain == "s0"
    assert len({name.casefold() for name in others}) == 4
    assert all("-" in name for name in others)


# What does not fit together


def cell(change: dict[str, str], line: int = 0) -> Callable[[Path], None]:
    """Changes a row of the manifest."""

    def changed(out: Path) -> None:
        listed = rows(out / "manifest.csv")
        listed[line] |= change
        with (out / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(listed[0]))
            writer.writeheader()
            writer.writerows(listed)

    return changed


def lost_tile(out: Path) -> None:
    next((out / "images").rglob("*.png")).unlink()


def lost_manifest(out: Path) -> None:
    (out / "manifest.csv").unlink()


def lost_column(out: Path) -> None:
    text = (out / "manifest.csv").read_text()
    (out / "manifest.csv").write_text(text.replace("source_width", "breadth", 1).replace(",x,", ",left,", 1))


def cut_truth(out: Path) -> None:
    text = (out / "whole.json").read_text()
    (out / "whole.json").write_text(text[: len(text) // 2])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lost_tile, "1 of 96 tiles do not exist, e.g. images/"),
        (lost_manifest, "no such file"),
        (lost_column, "no column x, source_width"),
        (cell({"split": "val"}), "it is in val, but its source s[0-9].png in train"),
        (cell({"source": "s99.png"}), "source s99.png is not in whole.json"),
        (cell({"x": "137"}), "64 x 64 at 137, 0 is not within s[0-9].png, 200 x 150"),
        (cell({"y": "-1"}), "at 0, -1 is not within"),
        (cell({"width": "wide"}), "line 2: x, y, width, height: whole numbers expected"),
        (cut_truth, "whole.json: not as `rarecall tile` writes it"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    made: tuple[Path, dict[str, Boxes]], damage: Callable[[Path], None], says: str
) -> None:
    out, _ = made
    damage(out)
    with pytest.raises(UsageError, match=says):
        read_tiles(out / "data.yaml")


def test_other_data_sets_are_none_of_tiles(tmp_path: Path) -> None:
    assert read_tiles(write_whole_splits(tmp_path / "set", {"train": 2, "val": 2})) is None


def test_what_is_written_beside_the_tiles(made: tuple[Path, dict[str, Boxes]]) -> None:
    out, _ = made
    described = yaml.safe_load((out / "data.yaml").read_text())
    splits = {split: f"images/{split}" for split in ("train", "val", "test")}
    assert described == {**splits, "names": ["cell", "cluster"]}
    (first, *_) = rows(out / "manifest.csv")
    assert list(first) == [
        *("image", "source", "split", "x", "y", "width", "height", "source_width", "source_height"),
        *("augmented_from", "split_unit", "objects/cell", "objects/cluster"),
    ]
    assert first["augmented_from"] == ""
    assert sorted(entry.name for entry in out.iterdir()) == [
        *(".lock", "data.yaml", "images", "labels", "manifest.csv", "objects.csv", "tile.json", "whole.json")
    ]
