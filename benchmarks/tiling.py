"""How fast whole images are cut, per process, against `sahi.slicing.slice_coco`; and the memory of a worker.

    pip install sahi   # in an environment of its own; only this benchmark needs it
    python benchmarks/tiling.py --images 100 --side 4096 --objects 1300

Both are held to one core and take turns, batch by batch, on the same images, boxes, format and quality: PNG
(lossless; each at its own default compression), and JPEG of quality 95. What is timed is everything from the
COCO json to the data set on disk, in seconds of wall time and of the process's own. Counts are to be equal:
tiles, and labels (but SAHI wants more than the visible share, not as much, of boxes at whole pixels).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from trainables.data.boxes.cutting import JPEG_QUALITY
from trainables.data.boxes.tiling import VISIBLE, Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import cut_into, whole_images

SIZE, OVERLAP = 640, 64
BATCH = 5  # images


def drawn(side: int, rng: np.random.Generator, objects: int) -> tuple[np.ndarray, list[list[int]]]:
    """A stained slide, about as hard to compress as one, and the boxes of its cells."""
    tissue = cv2.resize(
        rng.integers(150, 255, (side // 32, side // 32, 3)).astype(np.uint8),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    image = np.clip(
        tissue.astype(np.int16) + rng.integers(-4, 5, tissue.shape, dtype=np.int16), 0, 255
    ).astype(np.uint8)
    boxes = []
    for _ in range(objects):
        width, height = (int(value) for value in rng.integers(8, 60, 2))
        x, y = (int(value) for value in rng.integers(0, side - 60, 2))
        centre = (x + width // 2, y + height // 2)
        cv2.ellipse(image, centre, (width // 2, height // 2), 0, 0, 360, (120, 60, 140), -1)
        boxes.append([x, y, width, height])
    return image, boxes


def write_batch(folder: Path, first: int, side: int, objects: int) -> Path:
    """A COCO json of some images, beside them."""
    folder.mkdir(parents=True)
    images, annotations = [], []
    for i in range(BATCH):
        rng = np.random.default_rng(first + i)
        pixels, boxes = drawn(side, rng, objects)
        name = f"slide{first + i:03}.png"
        cv2.imwrite(str(folder / name), pixels)
        images.append({"id": i + 1, "file_name": name, "width": side, "height": side})
        for j, box in enumerate(boxes):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": 2 if j % 160 == 0 else 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "cluster"}]
    file = folder / "whole.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def ours(file: Path, out: Path, *, jpeg: bool) -> tuple[int, int]:
    """Tiles and labels."""
    grid = Grid(SIZE, OVERLAP, jpeg=jpeg)
    tiled = cut_into(out, load_whole(file), grid, workers=1, watch=lambda done, total: None)
    splits = tiled.counts.values()
    return sum(counts.tiles for counts in splits), sum(int(counts.labelled.sum()) for counts in splits)


def theirs(file: Path, out: Path, *, jpeg: bool) -> tuple[int, int]:
    """Tiles and labels."""
    from sahi.slicing import slice_coco  # noqa: PLC0415  (not installed with the project)

    found, _ = slice_coco(
        str(file),
        str(file.parent),
        output_coco_annotation_file_name="sliced",
        output_dir=str(out),
        min_area_ratio=VISIBLE,
        slice_height=SIZE,
        slice_width=SIZE,
        overlap_height_ratio=OVERLAP / SIZE,
        overlap_width_ratio=OVERLAP / SIZE,
        out_ext=".jpg" if jpeg else ".png",
    )
    return len(found["images"]), len(found["annotations"])


def timed(work: Callable[[], tuple[int, int]]) -> tuple[float, float, tuple[int, int]]:
    """Seconds of wall time, seconds of this process, counts."""
    wall, own = time.perf_counter(), time.process_time()
    counts = work()
    return time.perf_counter() - wall, time.process_time() - own, counts


def same_quality() -> None:
    """SAHI says nothing of quality, and Pillow's default for JPEG is 75."""
    save = Image.Image.save

    def saved(self: Image.Image, place: Any, *args: Any, **options: Any) -> None:
        if str(place).endswith(".jpg"):
            options.setdefault("quality", JPEG_QUALITY)
        save(self, place, *args, **options)

    Image.Image.save = saved


def race(files: list[Path], scratch: Path, *, jpeg: bool) -> None:
    seconds: dict[str, list[tuple[float, float]]] = {"rarecall": [], "sahi": []}
    tiles = {"rarecall": 0, "sahi": 0}
    labels = {"rarecall": 0, "sahi": 0}
    for i, file in enumerate(files):
        turns = [("rarecall", ours), ("sahi", theirs)]
        for name, cut in turns if i % 2 == 0 else turns[::-1]:
            out = scratch / f"{name}{i}{'jpg' if jpeg else 'png'}"
            wall, own, counts = timed(lambda cut=cut, file=file, out=out: cut(file, out, jpeg=jpeg))
            seconds[name].append((wall, own))
            tiles[name] += counts[0]
            labels[name] += counts[1]
            subprocess.run(["rm", "-rf", str(out)], check=True)
    n = BATCH * len(files)
    for name, spent in seconds.items():
        wall, own = np.array(spent).sum(axis=0) / n
        told = f"{wall:.2f} s wall, {own:.2f} s own per image; {tiles[name]} tiles, {labels[name]} labels"
        print(f"{'JPEG' if jpeg else 'PNG'} {name}: {told}", flush=True)
    ratios = np.array(seconds["sahi"]) / np.array(seconds["rarecall"])
    wall, own = np.median(ratios, axis=0)
    print(f"  x{wall:.1f} wall, x{own:.1f} own time, median of {len(files)} turns")


def peak_memory(file: Path, out: Path) -> None:
    """In this process, a fresh one: how much cutting adds to what is there before, in decoded images."""
    wholes = whole_images(load_whole(file), Grid(SIZE, OVERLAP))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = status("VmRSS")
    cut_into(out, load_whole(file), Grid(SIZE, OVERLAP), workers=1, watch=lambda done, total: None)
    added = status("VmHWM") - before
    height, width = wholes[0].image.size
    print(f"a worker's peak: {added / 2**20:.0f} MiB, {added / (3 * height * width):.2f} decoded images")


def status(key: str) -> int:
    """Bytes, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--objects", type=int, default=1300)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ["RARECALL_CACHE"] = str(scratch / "cache")  # nothing is known of the images before
        if args.peak is not None:
            peak_memory(args.peak, scratch / "peak")
            return
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        cv2.setNumThreads(1)
        firsts = range(0, args.images, BATCH)
        files = [write_batch(scratch / f"batch{i}", i, args.side, args.objects) for i in firsts]
        same_quality()
        for jpeg in (False, True):
            race(files, scratch, jpeg=jpeg)
        subprocess.run([sys.executable, __file__, "--peak", str(files[0])], check=True)


if __name__ == "__main__":
    main()
