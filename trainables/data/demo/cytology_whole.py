"""`demo:cytology_whole`: slides as `demo:cytology` draws them, but large, and cut into tiles that overlap.

Cells and clusters lie on the borders of tiles, so how these are merged matters. A slide has 1,024 px; about
one tile in ten shows a cluster.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from trainables.contract.trial import TileSpec, WholeImages
from trainables.data.boxes.data_set import describe_detection
from trainables.data.cut_once import cut_once, load_asked
from trainables.data.demo.cytology import CLASSES, Scene, draw_slide
from trainables.data.demo.drawing import drawn_once
from trainables.data.summary import DataSummary

VERSION = 2  # of the drawing; names the cache folder
SEED = 5
SLIDES = {"train": 12, "val": 20, "test": 48}
SCENE = Scene(side=1024, cells=360, clusters=3.0, smears=6.0)  # about 155 cells for a cluster
TILE = TileSpec(size=256, overlap=48)  # the largest clusters have 48 px


def materialise() -> Path:
    """Draw the slides into this node's cache folder and cut them, unless they are there; the `data.yaml`."""
    folder = drawn_once(f"cytology-whole-v{VERSION}", _draw_all)
    whole = load_asked(WholeImages(images=str(folder / "data.yaml"), tile=TILE))
    return cut_once(whole, TILE, workers=1, watch=lambda done, total: None).file


def describe() -> DataSummary:
    """Count the demo."""
    return describe_detection(materialise())


def _draw_all(folder: Path) -> None:
    for number, (split, count) in enumerate(SLIDES.items()):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for slide in range(count):
            pixels, classes, boxes = draw_slide(np.random.default_rng((SEED, number, slide)), SCENE)
            name = f"{split}_{slide:03d}"
            Image.fromarray(pixels).save(folder / "images" / split / f"{name}.png", compress_level=1)
            (folder / "labels" / split / f"{name}.txt").write_text(_label_text(classes, boxes))
    described = {**{split: f"images/{split}" for split in SLIDES}, "names": list(CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False))


def _label_text(classes: npt.NDArray[np.int64], boxes: npt.NDArray[np.float32]) -> str:
    """Of YOLO's layout; what reaches over the slide's edge is cut there, what lies beyond it left out."""
    inside = np.clip(boxes, 0, SCENE.side)
    sides = inside[:, 2:] - inside[:, :2]
    seen = (sides > 1).all(axis=1)
    rows = np.hstack([(inside[:, :2] + inside[:, 2:]) / 2, sides])[seen] / SCENE.side
    columns = zip(classes[seen].tolist(), rows.tolist(), strict=True)
    return "".join(f"{c} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, (x, y, w, h) in columns)
