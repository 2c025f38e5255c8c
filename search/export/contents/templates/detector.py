"""Find objects with this detector. Runs without rarecall: what it needs of it lies in `carried`.

    python predict.py IMAGES... --out found

IMAGES are image files, and folders of them. `found` is made, with `predictions.json` (COCO results, images
and classes numbered from 1), `predictions.csv`, and `pictures` with the boxes drawn. An image is read,
resized, cut into overlapping tiles (if the training images were), searched and merged as it was when this
detector was measured, and boxes count above the confidence that was chosen then. The biases of the classes
are in the weights.

Which weights: `weights.onnx` if it is there (needs onnxruntime, numpy and opencv-python), else
`weights.torchscript` (torch instead of onnxruntime), else `weights.pt` (torch and ultralytics); or
`--weights`. Of two models, the one for the rare classes is the file with `_minority` in its name beside it.

From another program: `Detector().find(pixels)`, of (height, width, 3) bytes, BGR as OpenCV has them.
"""

import argparse
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "carried")]

# ruff: noqa: E402
from networks import (  # type: ignore[import-not-found]
    NETWORKS,
    Network,
    Use,
    traceable,
    weights_in,
)

from trainables.contract.merging import Merging
from trainables.data.boxes.pixels import read_pixels
from trainables.data.boxes.tiling import windows
from trainables.evaluation.merging import WAYS, Placed, merge
from trainables.evaluation.overlaps import covered

SUFFIXES = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
TILES_AT_ONCE = 16
# BGR, told apart by colour-blind people too; Okabe and Ito 2008.
COLOURS = ((178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204), (0, 159, 230), (233, 180, 86))

__all__ = ["Detector", "Found", "Use", "traceable"]

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What is found on an image, by falling score.

    Attributes:
        label: (n,) class ids.
        score: (n,) in [0, 1].
        box: (n, 4) left, top, right, bottom; pixels.
    """

    label: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    box: npt.NDArray[np.float64]


class Detector:
    """Weights, and how to use them.

    Args:
        weights: A file; None for the one in this folder.
        device: `cpu`, or e.g. `cuda:0`.
    """

    def __init__(self, weights: Path | None = None, *, device: str = "cpu") -> None:
        file = weights_in(HERE) if weights is None else weights
        beside = file.with_name(f"{file.stem}_minority{file.suffix}")
        load = NETWORKS[file.suffix]
        first = load(file, device)
        two = "classes" in first.settings["predict"] and beside.is_file()
        self._networks: list[Network] = [first, load(beside, device)] if two else [first]
        said, tiles = first.settings, first.settings["tiles"]
        self.class_names: list[str] = said["class_names"]
        self._suppress: float = said["suppress"]
        self._minority: list[int] = self._networks[-1].settings["predict"].get("classes", [])
        self.use = Use(
            **{name: said["predict"][name] for name in ("conf", "iou", "max_det", "imgsz")},
            size=None if tiles is None else tiles["size"],
            overlap=0 if tiles is None else tiles["overlap"],
            merging="core" if tiles is None else tiles["merging"],
            pixel_max=said["pixel_max"],
        )

    def find(self, pixels: Pixels, use: Use | None = None) -> Found:
        """What is on an image.

        Args:
            pixels: (height, width, 3) BGR.
            use: How; None as the weights say.
        """
        use = self.use if use is None else use
        height, width = pixels.shape[:2]
        size = max(height, width) if use.size is None else use.size
        cut = windows(width, height, size=size, overlap=use.overlap)  # (W, 4) x, y, width, height
        rows = np.concatenate([np.zeros((0, 7)), *self._of_tiles(pixels, cut, use)])
        rows = rows[np.argsort(-rows[:, 5], kind="stable")]
        tile, label, score = rows[:, 0].astype(np.int64), rows[:, 6].astype(np.int64), rows[:, 5]
        if self._suppress:
            inside = covered(tile, label, score, rows[:, 1:5], self._minority, least=0, share=self._suppress)
            rows, tile, label, score = rows[~inside], tile[~inside], label[~inside], score[~inside]
        placed = Placed(
            image=np.zeros_like(tile),
            tile=tile,
            label=label,
            score=score.astype(np.float32),
            box=rows[:, 1:5] + np.hstack([cut[tile, :2], cut[tile, :2]]),
        )
        # An image that is not cut is as suppression within it leaves it.
        way: Merging = "none" if use.size is None else use.merging
        whole = merge(placed, cut, np.zeros(len(cut), dtype=np.int64), way)
        return Found(whole.label, whole.score.astype(np.float64), whole.box.astype(np.float64))

    def _of_tiles(self, pixels: Pixels, cut: npt.NDArray[np.int64], use: Use) -> Iterator[Rows]:
        """(n, 7) index of the tile, x1, y1, x2, y2 in its pixels, score, class."""
        tiles = ((i, pixels[y : y + high, x : x + wide]) for i, (x, y, wide, high) in enumerate(cut.tolist()))
        while batch := list(islice(tiles, TILES_AT_ONCE)):
            squares = np.stack([square(tile, use.imgsz) for _, tile in batch])  # (B, side, side, 3) BGR
            rgb = np.ascontiguousarray(squares[..., ::-1].transpose(0, 3, 1, 2))
            planes = rgb.astype(np.float32) / np.float32(255)
            for network in self._networks:
                classes = network.settings["predict"].get("classes")
                for (i, tile), rows in zip(batch, network.rows(planes, use), strict=True):
                    kept = rows if classes is None else rows[np.isin(rows[:, 5], classes)]
                    boxes = in_pixels(kept[:, :4], tile.shape[:2], use.imgsz)
                    yield np.hstack([np.full((len(kept), 1), i), boxes, kept[:, 4:6]]).astype(np.float64)


def fitted(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Height and width of an image (height, width) within the square, and its upper left corner's y and x."""
    gain = min(side / size[0], side / size[1])
    height, width = (max(round(length * gain), 1) for length in size)
    return height, width, round((side - height) / 2 - 0.1), round((side - width) / 2 - 0.1)


def square(pixels: Pixels, side: int) -> Pixels:
    """(side, side, 3): as large as fits, its aspect ratio kept, in the middle of grey."""
    height, width, top, left = fitted((pixels.shape[0], pixels.shape[1]), side)
    if pixels.shape[:2] != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    padded = np.full((side, side, 3), 114, dtype=np.uint8)
    padded[top : top + height, left : left + width] = pixels
    return padded


def in_pixels(boxes: npt.NDArray[np.float32], size: tuple[int, ...], side: int) -> npt.NDArray[np.float32]:
    """(n, 4) boxes in the square as boxes in the image (height, width) that was made one."""
    height, width, top, left = fitted((size[0], size[1]), side)
    gain = np.array([width / size[1], height / size[0]] * 2, dtype=np.float32)
    moved = (boxes - np.array([left, top] * 2, dtype=np.float32)) / gain
    return moved.clip(0, np.array([size[1], size[0]] * 2, dtype=np.float32))


def drawn(pixels: Pixels, found: Found, class_names: Sequence[str]) -> Pixels:
    """The image with the boxes and their scores, a colour for each class, and which class has which."""
    shown, thick = pixels.copy(), max(1, round(max(pixels.shape[:2]) / 1000))

    def write(text: str, place: tuple[int, int], label: int) -> None:
        colour = COLOURS[label % len(COLOURS)]
        cv2.putText(shown, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1, cv2.LINE_AA)

    for label, score, box in zip(found.label.tolist(), found.score, found.box.round(), strict=True):
        left, top, right, bottom = box.astype(int).tolist()
        cv2.rectangle(shown, (left, top), (right, bottom), COLOURS[label % len(COLOURS)], thick)
        write(f"{score:.2f}", (left, top - 3 if top > 12 else bottom + 12), label)
    for label, name in enumerate(class_names):
        write(f"{name} {(found.label == label).sum()}", (4, 14 * (label + 1)), label)
    return shown


def results(number: int, name: str, found: Found, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """COCO results of an image, its name and the classes' beside them."""
    return [
        {
            "image_id": number,
            "category_id": label + 1,
            "bbox": [left, top, round(right - left, 3), round(bottom - top, 3)],
            "score": round(score, 6),
            "file_name": name,
            "category": class_names[label],
        }
        for label, score, (left, top, right, bottom) in zip(
            found.label.tolist(), found.score.tolist(), found.box.round(3).tolist(), strict=True
        )
    ]


def image_files(places: Sequence[str]) -> dict[Path, str]:
    """The images that are named, or in folders that are, sorted; each with a name of its own."""
    found: dict[Path, None] = {}
    for place in map(Path, places):
        if not place.exists():
            raise SystemExit(f"no such image or folder: {place}")
        inside = [file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES]
        found |= dict.fromkeys(file.resolve() for file in (sorted(inside) if place.is_dir() else [place]))
    if not found:
        raise SystemExit(f"no image in {', '.join(places)}; image files end in {', '.join(SUFFIXES)}")
    root = os.path.commonpath([file.parent for file in found])
    return {file: file.relative_to(root).as_posix() for file in found}


def predicted(
    detector: Detector, use: Use, files: dict[Path, str], pictures: Path | None
) -> Iterator[dict[str, Any]]:
    """What is found on each image; boxes are drawn into `pictures` unless it is None."""
    for number, (file, name) in enumerate(files.items(), start=1):
        try:
            pixels = read_pixels(file, use.pixel_max)
        except OSError as error:
            raise SystemExit(f"{file}: {error}") from None
        if pixels is None:
            print(f"left out, no image that can be read: {name}", file=sys.stderr)
            continue
        found = detector.find(pixels, use)
        yield from results(number, name, found, detector.class_names)
        if pictures is not None:
            picture = pictures / f"{name}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            shown = drawn(pixels, found, detector.class_names)
            cv2.imencode(".jpg", shown)[1].tofile(picture)


def arguments() -> argparse.Namespace:
    """What is typed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="image files, and folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, a new one")
    parser.add_argument("--weights", type=Path, help="default: which of them is in this folder")
    parser.add_argument("--conf", type=float, help="boxes score more (default: as it was measured)")
    parser.add_argument("--size", type=int, help="of a tile, pixels (default: as it was measured)")
    parser.add_argument("--overlap", type=int, help="of neighbouring tiles, pixels (default: likewise)")
    parser.add_argument("--merging", choices=WAYS, help="of what is found on tiles (default: likewise)")
    parser.add_argument("--pixel-max", type=int, help="16-bit value that is white (default: likewise)")
    parser.add_argument("--no-pictures", action="store_true", help="no pictures with the boxes")
    parser.add_argument("--device", default="cpu", help="cpu, or e.g. cuda:0")
    args = parser.parse_args()
    if args.weights is not None and (args.weights.suffix not in NETWORKS or not args.weights.is_file()):
        parser.error(f"--weights: no file that ends in {', '.join(NETWORKS)}: {args.weights}")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        parser.error(f"--out: {args.out} is there and not empty; choose a new folder")
    return args


def main() -> None:
    """Find, write, and say how much was found."""
    args = arguments()
    files = image_files(args.images)
    detector = Detector(args.weights, device=args.device)
    names = ("conf", "size", "overlap", "merging", "pixel_max")
    asked = {name: value for name in names if (value := getattr(args, name)) is not None}
    use = replace(detector.use, **asked)
    if not 0 <= use.conf < 1 or (use.size is not None and not 0 <= use.overlap < use.size):
        raise SystemExit("--conf: from 0 to less than 1; --overlap: from 0 to less than --size")
    args.out.mkdir(parents=True, exist_ok=True)
    found = list(predicted(detector, use, files, None if args.no_pictures else args.out / "pictures"))
    with (args.out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "class", "score", "x", "y", "width", "height"))
        table.writerows((one["file_name"], one["category"], one["score"], *one["bbox"]) for one in found)
    (args.out / "predictions.json").write_text(json.dumps(found) + "\n")
    counts = Counter(one["category"] for one in found)
    told = ", ".join(f"{name} {counts[name]}" for name in detector.class_names)
    print(f"{len(files)} images: {told} -> {args.out}")


if __name__ == "__main__":
    main()
