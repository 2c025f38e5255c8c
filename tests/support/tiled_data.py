"""A data set of tiles that a tiny detector trains on: slides of dark squares and big bright ones, cut."""

from pathlib import Path

import numpy as np
from PIL import Image
from whole_images import Boxes, yolo_text

from trainables.data.boxes.tiling import Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import cut_into

WIDTH, HEIGHT = 160, 120
GRID = Grid(64, 32)


def draw_slides(folder: Path, n: int = 10, *, clusters: int = 2, cells: int = 12) -> dict[str, Boxes]:
    """`folder/s0.png`, … with labels beside them; name -> boxes. Class 1 is the rare one."""
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("cell\ncluster\n")
    rng = np.random.default_rng(0)
    listed = {}
    for i in range(n):
        pixels = rng.integers(100, 140, (HEIGHT, WIDTH, 3))
        boxes: Boxes = []
        for c, side, light in [(1, 26, 240)] * clusters + [(0, 10, 20)] * cells:
            x, y = (int(rng.integers(0, length - side)) for length in (WIDTH, HEIGHT))
            pixels[y : y + side, x : x + side] = light
            boxes.append((c, [x, y, side, side]))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"s{i}.png")
        (folder / f"s{i}.txt").write_text(yolo_text(boxes, (WIDTH, HEIGHT)))
        listed[f"s{i}.png"] = boxes
    return listed


def draw_tiled(root: Path, n: int = 10) -> Path:
    """The slides cut; the data.yaml of the tiles."""
    draw_slides(root / "slides", n)
    cut_into(root / "tiles", load_whole(root / "slides"), GRID, workers=1, watch=lambda done, total: None)
    return root / "tiles" / "data.yaml"
