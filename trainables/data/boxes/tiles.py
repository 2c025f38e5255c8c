"""What lies beside the tiles of whole images: which tile is where, what it shows, and the whole truth.

- `manifest.csv`: a row per tile; `source` is the whole image it was cut from, `split_unit` what was kept in
  one split (the image itself, or its group), `x, y` its upper left corner there.
- `objects.csv`: a row per object and tile that shows some of it; `object` counts within the whole image.
- `whole.json`: the whole images with their boxes, COCO instances; the truth for what is
  merged. Ids begin at 1.
- `data.yaml`: written last; from then on the folder is a data set in YOLO's layout.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import yaml

from spaces.errors import UsageError
from trainables.data.boxes.cutting import Laid, Whole
from trainables.data.boxes.listed import BoxData, BoxImage, Source, Tile
from trainables.data.boxes.tiling import Grid, Ints
from trainables.data.files import SPLITS

MANIFEST, OBJECTS, TRUTH, DATA = "manifest.csv", "objects.csv", "whole.json", "data.yaml"
REQUEST = "tile.json"  # how images are cut, and which
PLACE = ("x", "y", "width", "height")
TILE = ("image", "source", "split", *PLACE, "source_width", "source_height", "augmented_from", "split_unit")
PIECE = ("image", "object", "class", "visible", *PLACE, "kept")


@dataclass
class Counts:
    """What the tiles of a split hold; arrays are (n_classes,).

    Attributes:
        images: Whole images.
        without: Whole images without an object: background.
        tiles: All tiles.
        empty: Tiles without a label.
        objects: Of the whole images.
        labelled: Labels in tiles; an object may have several.
        dropped: Pieces too small to be labelled.
        unseen: Objects that no tile has a label for.
    """

    images: int = 0
    without: int = 0
    tiles: int = 0
    empty: int = 0
    objects: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    labelled: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    dropped: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unseen: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def zero(cls, n_classes: int) -> "Counts":
        """Of nothing."""
        return cls(0, 0, 0, 0, *(np.zeros(n_classes, dtype=np.int64) for _ in range(4)))

    def add(self, laid: Laid) -> None:
        """Count one image, too."""
        classes, pieces, n = laid.whole.image.classes, laid.pieces, len(self.objects)
        kept = pieces.kept
        unseen = np.ones(len(classes), dtype=bool)
        unseen[pieces.object[kept]] = False
        self.images += 1
        self.without += len(classes) == 0
        self.tiles += len(laid.windows)
        self.empty += len(laid.windows) - len(np.unique(pieces.window[kept]))
        self.objects += np.bincount(classes, minlength=n)
        self.labelled += np.bincount(classes[pieces.object[kept]], minlength=n)
        self.dropped += np.bincount(classes[pieces.object[~kept]], minlength=n)
        self.unseen += np.bincount(classes[unseen], minlength=n)


def write_data_set(
    out: Path, wholes: Iterable[Whole], class_names: Sequence[str], images_in: Path
) -> dict[str, Counts]:
    """Write what lies beside the tiles.

    Args:
        out: Folder of the data set; its tiles are there.
        wholes: The images that were cut.
        class_names: In class-id order.
        images_in: What the images' names are relative to.

    Returns:
        Split -> what is in it.

    Raises:
        OSError: The disk is full, or nothing can be written there.
    """
    counts: dict[str, Counts] = {}
    truth: dict[str, Any] = {
        "info": {"images_in": str(images_in)},
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)],
    }
    with _replaced(out / MANIFEST) as manifest, _replaced(out / OBJECTS) as objects:
        tiles, pieces = csv.writer(manifest), csv.writer(objects)
        tiles.writerow([*TILE, *(f"objects/{name}" for name in class_names)])
        pieces.writerow(PIECE)
        for whole in wholes:
            laid = whole.laid()
            counts.setdefault(whole.split, Counts.zero(len(class_names))).add(laid)
            tiles.writerows(_tile_rows(laid, len(class_names)))
            pieces.writerows(_piece_rows(laid, class_names))
            _add_truth(truth, laid)
    with _replaced(out / TRUTH) as file:
        json.dump(truth, file)
    described = {split: f"images/{split}" for split in SPLITS if split in counts}
    with _replaced(out / DATA) as file:
        yaml.safe_dump(described | {"names": list(class_names)}, file, sort_keys=False)
    return counts


@contextmanager
def _replaced(file: Path) -> Iterator[TextIO]:
    """Write a file that is there only when it is whole."""
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as stored:
        yield stored
    os.replace(partial, file)


def _tile_rows(laid: Laid, n_classes: int) -> Iterator[list[Any]]:
    image, pieces = laid.whole.image, laid.pieces
    held = np.zeros((len(laid.windows), n_classes), dtype=np.int64)
    np.add.at(held, (pieces.window[pieces.kept], image.classes[pieces.object[pieces.kept]]), 1)
    height, width = image.size
    for name, place, counted in zip(laid.tile_names(), laid.windows.tolist(), held.tolist(), strict=True):
        yield [name, image.name, laid.whole.split, *place, width, height, "", image.source, *counted]


def _piece_rows(laid: Laid, class_names: Sequence[str]) -> Iterator[list[Any]]:
    names, pieces, classes = laid.tile_names(), laid.pieces, laid.whole.image.classes
    columns = (pieces.window, pieces.object, pieces.visible, pieces.boxes, pieces.kept)
    for window, index, visible, box, kept in zip(*(column.tolist() for column in columns), strict=True):
        sides = (f"{value:.9g}" for value in box)
        yield [names[window], index, class_names[classes[index]], f"{visible:.9g}", *sides, int(kept)]


def _add_truth(truth: dict[str, Any], laid: Laid) -> None:
    image = laid.whole.image
    image_id = len(truth["images"]) + 1
    truth["images"].append(
        {
            "id": image_id,
            "file_name": image.name,
            "width": image.size[1],
            "height": image.size[0],
            "split": laid.whole.split,
            "group": image.source,
        }
    )
    sides = (laid.objects[:, 2:] - laid.objects[:, :2]).round(3)
    boxes = np.hstack([laid.objects[:, :2], sides]).tolist()
    first = len(truth["annotations"]) + 1
    truth["annotations"] += [
        {
            "id": first + i,
            "image_id": image_id,
            "category_id": class_id + 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for i, (class_id, box) in enumerate(zip(image.classes.tolist(), boxes, strict=True))
    ]


def count(wholes: Iterable[Whole], n_classes: int) -> dict[str, Counts]:
    """Split -> what its tiles hold, whether they are cut yet or not."""
    counts: dict[str, Counts] = {}
    for whole in wholes:
        counts.setdefault(whole.split, Counts.zero(n_classes)).add(whole.laid())
    return counts


def written(out: Path) -> tuple[Path, frozenset[str]] | None:
    """What `write_data_set` was told of: where the images are, and their names; None before it is done."""
    if not ((out / DATA).is_file() and (out / MANIFEST).is_file()):
        return None
    try:
        truth = json.loads((out / TRUTH).read_text(encoding="utf-8"))
        return Path(truth["info"]["images_in"]), frozenset(entry["file_name"] for entry in truth["images"])
    except (OSError, ValueError, LookupError, TypeError):  # it is written anew
        return None


@dataclass(frozen=True)
class Tiles:
    """A data set of tiles.

    Attributes:
        class_names: In class-id order.
        sources: Name -> whole image.
        images_in: Folder that their names are relative to.
    """

    class_names: tuple[str, ...]
    sources: dict[str, Source]
    images_in: Path


def read_tiles(data_file: Path) -> Tiles | None:
    """The whole images of a data set of tiles; None if it is none, that is without `whole.json`.

    Args:
        data_file: The `data.yaml`.

    Raises:
        UsageError: A tile or a source is missing, a source is in two splits, or a tile reaches over its
            source's edge.
    """
    folder = data_file.resolve().parent
    if not (folder / TRUTH).is_file():
        return None
    names, known, images_in = _read_truth(folder / TRUTH)
    tiles = _read_manifest(folder / MANIFEST)
    missing = [tile.name for tile in tiles if not (folder / tile.name).is_file()]
    if missing:
        raise UsageError(
            f"{folder / MANIFEST}: {len(missing)} of {len(tiles)} tiles do not exist, e.g. {missing[0]}",
            "`rarecall tile` with the arguments of before makes what is missing",
        )
    of_source: dict[str, list[Tile]] = {name: [] for name in known}
    for tile in tiles:
        _check(tile, known, f"{folder / MANIFEST}: {tile.name}")
        of_source[tile.source].append(tile)
    return Tiles(
        names,
        {
            name: Source(name, tiles=tuple(of_source[name]), **source)
            for name, source in known.items()
            if of_source[name]
        },
        images_in,
    )


def _check(tile: Tile, known: Mapping[str, Mapping[str, Any]], where: str) -> None:
    source = known.get(tile.source)
    if source is None:
        raise UsageError(f"{where}: source {tile.source} is not in {TRUTH}")
    if tile.split != source["split"]:
        raise UsageError(
            f"{where}: it is in {tile.split}, but its source {tile.source} in {source['split']}",
            "what is measured on a source that was trained on flatters",
        )
    inside = tile.x + tile.width <= source["width"] and tile.y + tile.height <= source["height"]
    if min(tile.x, tile.y) < 0 or min(tile.width, tile.height) < 1 or not inside:
        raise UsageError(
            f"{where}: {tile.width} x {tile.height} at {tile.x}, {tile.y} is not within {tile.source}, "
            f"{source['width']} x {source['height']}"
        )


def _read_manifest(path: Path) -> list[Tile]:
    try:
        with path.open(newline="", encoding="utf-8") as stored:
            reader = csv.DictReader(stored, strict=True)
            lacking = [column for column in TILE if column not in (reader.fieldnames or ())]
            if lacking:
                raise UsageError(f"{path}: no column {', '.join(lacking)}", "`rarecall tile` writes it")
            return [_tile(row, f"{path}, line {reader.line_num}") for row in reader]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file, but there is {TRUTH}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no CSV in UTF-8: {error}") from error


def _tile(row: Mapping[str, Any], where: str) -> Tile:
    try:
        x, y, width, height = (int(row[column]) for column in PLACE)
    except (TypeError, ValueError):
        got = ", ".join(str(row[column]) for column in PLACE)
        raise UsageError(f"{where}: {', '.join(PLACE)}: whole numbers expected, got {got}") from None
    name, source, split = (str(row[column] or "") for column in ("image", "source", "split"))
    return Tile(name, source, split, x, y, width, height, row["augmented_from"] or "")


def _read_truth(path: Path) -> tuple[tuple[str, ...], dict[str, dict[str, Any]], Path]:
    """Class names; name -> what `Source` says of it, but for its tiles; and the folder of the images."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(entry["name"]) for entry in stored["categories"])
        objects: dict[int, list[tuple[int, list[float]]]] = {entry["id"]: [] for entry in stored["images"]}
        for entry in stored["annotations"]:
            objects[entry["image_id"]].append((entry["category_id"] - 1, entry["bbox"]))
        sources = {
            entry["file_name"]: {key: entry[key] for key in ("split", "group", "width", "height")}
            | {
                "classes": np.array([class_id for class_id, _ in objects[entry["id"]]], dtype=np.int64),
                "boxes": _corners([box for _, box in objects[entry["id"]]]),
            }
            for entry in stored["images"]
        }
        return names, sources, Path(stored["info"]["images_in"])
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{path}: not as `rarecall tile` writes it: {type(error).__name__}: {error}"
        ) from error


def _corners(boxes: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    found = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return np.hstack([found[:, :2], (found[:, :2] + found[:, 2:]).round(3)])


def with_tiles(data: BoxData, data_file: Path) -> BoxData:
    """The data set with what is known of the whole images, if its images are tiles; else as it is.

    Args:
        data: As read from `data_file`.
        data_file: The `data.yaml`.

    Raises:
        UsageError: As `read_tiles`, or an image is none of the tiles.
    """
    tiles = read_tiles(data_file)
    if tiles is None:
        return data
    known = {name: of for source in tiles.sources.values() for name, of in _known(source)}

    def placed(image: BoxImage) -> BoxImage:
        if image.name not in known:
            raise UsageError(
                f"{data_file.parent / MANIFEST}: {image.name} is in the data set, but not here",
                f"a data set is of tiles alone; without {MANIFEST} and {TRUTH} none is taken for one",
            )
        return replace(image, **known[image.name])

    splits = {split: tuple(placed(image) for image in images) for split, images in data.splits.items()}
    grid = _grid(data_file.parent / REQUEST)
    groups = {whole.group for whole in tiles.sources.values()}
    return replace(
        data,
        splits=splits,
        wholes=tiles.sources,
        grid=grid,
        images_in=tiles.images_in,
        unit="group" if len(groups) < len(tiles.sources) else data.unit,
    )


def _grid(path: Path) -> Grid:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Grid(int(stored["size"]), int(stored["overlap"]), jpeg=stored["format"] == "jpg")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file, but there is {TRUTH}") from None
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{path}: not as `rarecall tile` writes it: {error}") from error


def _known(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of each tile, and what `BoxImage` says of it alone."""
    pieces = source.pieces()
    classes, ends = source.classes[pieces.object], pieces.boxes[:, :2] + pieces.boxes[:, 2:]
    boxes = np.hstack([pieces.boxes[:, :2], ends])
    for i, tile in enumerate(source.tiles):
        hidden = ~pieces.kept & (pieces.window == i)
        yield tile.name, {"tile": tile, "hidden_classes": classes[hidden], "hidden_boxes": boxes[hidden]}
