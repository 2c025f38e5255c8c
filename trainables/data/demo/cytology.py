"""`demo:cytology`: drawn slides with many small cells and few cell clusters, tiled; nothing is downloaded.

A slide is 512 px, stained with its own strength and hue, and holds about 120 cells. A *cluster* is a clump of
cells on a sheet of cytoplasm; its cells are labelled as well. Pairs and triples of touching cells, and
unlabelled smears of stain, look like it. All splits are drawn by the same process, so each has the natural
prevalence of clusters, about one tile in twenty. Colours are mixed as in a microscope: light = white *
exp(-density), per stain (Beer-Lambert).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from trainables.data.boxes.data_set import describe_detection
from trainables.data.demo.drawing import drawn_once
from trainables.data.summary import DataSummary

VERSION = 2  # of the drawing; names the cache folder, so whatever changes the pixels changes it
SEED = 3  # 22 of the 480 training tiles hold a cluster
SLIDES = {"train": 30, "val": 72, "test": 220}
CLASSES = ("cell", "cluster")
SIDE, TILE = 512, 128
VISIBLE = 0.4  # a tile owns an object if at least this share of its box lies inside
HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)  # RGB densities; Ruifrok & Johnston 2001

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A slide before it is drawn: the length of its sides in pixels, and mean numbers of what lies on it."""

    side: int
    cells: float
    clusters: float
    smears: float


SCENE = Scene(SIDE, cells=92, clusters=0.8, smears=1.6)


@dataclass(frozen=True)
class Blobs:
    """Ellipses with soft edges; each array (n,), pixels and radians."""

    x: Floats
    y: Floats
    radius: Floats
    stretch: Floats
    angle: Floats
    density: Floats


def materialise() -> Path:
    """Draw the demo into this node's cache folder, unless it is there, and return its `data.yaml`."""
    return drawn_once(f"cytology-v{VERSION}", _draw_all) / "data.yaml"


def describe() -> DataSummary:
    """Count the demo."""
    return describe_detection(materialise())


def _draw_all(folder: Path) -> None:
    manifest = []
    for number, (split, count) in enumerate(SLIDES.items()):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for slide in range(count):
            rng = np.random.default_rng((SEED, number, slide))
            pixels, classes, boxes = draw_slide(rng)
            name = f"{split}_{slide:03d}"
            for tile in _write_tiles(folder, split, name, pixels, classes, boxes):
                manifest.append({"image": tile, "source": name})
    with (folder / "manifest.csv").open("w", newline="") as stored:
        writer = csv.DictWriter(stored, ["image", "source"])
        writer.writeheader()
        writer.writerows(manifest)
    described = {**{split: f"images/{split}" for split in SLIDES}, "names": list(CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False))


def draw_slide(
    rng: np.random.Generator, scene: Scene = SCENE
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], Floats]:
    """One slide.

    Returns:
        RGB pixels (side, side, 3); classes (n,); boxes (n, 4) xyxy in pixels.
    """
    spots, sheets = _cell_spots(rng, scene)
    n = len(spots)
    cells = Blobs(
        x=spots[:, 0],
        y=spots[:, 1],
        radius=_uniform(rng, 3.6, 6.4, n),
        stretch=_uniform(rng, 0.8, 1.25, n),
        angle=_uniform(rng, 0, np.pi, n),
        density=_uniform(rng, 0.35, 0.6, n),
    )
    nuclei = Blobs(
        x=cells.x + _uniform(rng, -0.8, 0.8, n),
        y=cells.y + _uniform(rng, -0.8, 0.8, n),
        radius=cells.radius * _uniform(rng, 0.45, 0.62, n),
        stretch=_uniform(rng, 0.85, 1.18, n),
        angle=_uniform(rng, 0, np.pi, n),
        density=_uniform(rng, 0.7, 1.3, n),
    )
    m = rng.poisson(scene.smears)
    smears = Blobs(
        x=_uniform(rng, 0, scene.side, m),
        y=_uniform(rng, 0, scene.side, m),
        radius=_uniform(rng, 10, 20, m),
        stretch=_uniform(rng, 0.6, 1.6, m),
        angle=_uniform(rng, 0, np.pi, m),
        density=_uniform(rng, 0.15, 0.5, m),
    )
    eosin, haematoxylin = np.zeros((2, scene.side, scene.side), dtype=np.float32)
    for blobs in (cells, sheets, smears):
        _add(eosin, blobs)
    _add(haematoxylin, nuclei)
    classes = np.repeat(np.array([0, 1]), [n, len(sheets.x)])
    boxes = np.concatenate([_boxes(cells), _boxes(sheets)])
    return _develop(eosin, haematoxylin, rng), classes, boxes


def _uniform(rng: np.random.Generator, low: float, high: float, n: int) -> Floats:
    return rng.uniform(low, high, n).astype(np.float32)


def _cell_spots(rng: np.random.Generator, scene: Scene) -> tuple[Floats, Blobs]:
    """Where the cells lie (n, 2), those of clusters last; and the sheet under each cluster."""
    lone = rng.uniform(0, scene.side, (rng.poisson(scene.cells), 2))
    # One cell in five gets one or two neighbours that touch it: the clump that is not yet a cluster.
    near = np.repeat(lone, rng.choice([0, 1, 2], size=len(lone), p=[0.8, 0.13, 0.07]), axis=0)
    direction = rng.uniform(0, 2 * np.pi, len(near))
    near = near + 8.5 * np.stack([np.cos(direction), np.sin(direction)], axis=1)
    m = rng.poisson(scene.clusters)
    sheets = Blobs(
        x=_uniform(rng, 0, scene.side, m),
        y=_uniform(rng, 0, scene.side, m),
        radius=_uniform(rng, 12, 18, m),
        stretch=_uniform(rng, 0.75, 1.33, m),
        angle=_uniform(rng, 0, np.pi, m),
        density=_uniform(rng, 0.12, 0.4, m),
    )
    clumps = [_inside(sheets, i, int(rng.integers(6, 11)), rng) for i in range(m)]
    return np.concatenate([lone, near, *clumps]).astype(np.float32), sheets


def _inside(sheets: Blobs, i: int, n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """`n` points spread evenly (sunflower spiral, jittered) over sheet `i`; (n, 2)."""
    rank = np.arange(n) + 0.5
    turn = rank * np.pi * (3 - 5**0.5) + rng.uniform(0, 2 * np.pi)
    distance = 0.8 * sheets.radius[i] * np.sqrt(rank / n)
    along = distance * np.cos(turn) * sheets.stretch[i] + rng.normal(0, 1, n)
    across = distance * np.sin(turn) / sheets.stretch[i] + rng.normal(0, 1, n)
    c, s = np.cos(sheets.angle[i]), np.sin(sheets.angle[i])
    return np.stack([sheets.x[i] + c * along - s * across, sheets.y[i] + s * along + c * across], axis=1)


def _half_sides(blobs: Blobs) -> tuple[Floats, Floats]:
    """Half width and half height of each ellipse's bounding box."""
    a, b = blobs.radius * blobs.stretch, blobs.radius / blobs.stretch
    c, s = np.cos(blobs.angle), np.sin(blobs.angle)
    return np.hypot(a * c, b * s), np.hypot(a * s, b * c)


def _boxes(blobs: Blobs) -> Floats:
    w, h = _half_sides(blobs)
    return np.stack([blobs.x - w, blobs.y - h, blobs.x + w, blobs.y + h], axis=1)


def _add(plane: Floats, blobs: Blobs) -> None:
    """Add each ellipse's density to `plane`, with an edge of about 1.5 px."""
    reach = int(np.ceil((blobs.radius * np.maximum(blobs.stretch, 1 / blobs.stretch)).max(initial=0))) + 2
    column, row = np.floor(blobs.x).astype(int), np.floor(blobs.y).astype(int)
    offset = np.arange(-reach, reach + 1, dtype=np.float32)
    dx = offset[None, None, :] - (blobs.x - column - 0.5)[:, None, None]  # (n, 1, side)
    dy = offset[None, :, None] - (blobs.y - row - 0.5)[:, None, None]  # (n, side, 1)
    c, s = np.cos(blobs.angle)[:, None, None], np.sin(blobs.angle)[:, None, None]
    a = (blobs.radius * blobs.stretch)[:, None, None]
    b = (blobs.radius / blobs.stretch)[:, None, None]
    distance = np.sqrt(((c * dx + s * dy) / a) ** 2 + ((c * dy - s * dx) / b) ** 2)  # 1 on the edge
    inside = np.clip((1 - distance) * blobs.radius[:, None, None] / 1.5 + 0.5, 0, 1)
    patches = inside * blobs.density[:, None, None]  # (n, side, side)
    padded, side = np.pad(plane, reach), len(plane)
    for patch, x, y in zip(patches, column, row, strict=True):
        if -reach <= x < side + reach and -reach <= y < side + reach:
            window = padded[max(y, 0) : y + 2 * reach + 1, max(x, 0) : x + 2 * reach + 1]
            window += patch[max(-y, 0) :, max(-x, 0) :][: window.shape[0], : window.shape[1]]
    plane[:] = padded[reach:-reach, reach:-reach]


def _develop(eosin: Floats, haematoxylin: Floats, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Densities to RGB, with this slide's own stain strength and hue, lamp, and noise."""
    coarse = len(eosin) // 16
    grain = np.kron(
        rng.standard_normal((coarse, coarse), dtype=np.float32), np.ones((16, 16), dtype=np.float32)
    )
    planes = np.stack([eosin + 0.06 + 0.015 * grain, haematoxylin])  # (2, side, side)
    vectors = np.array([EOSIN, HAEMATOXYLIN]) * rng.uniform(0.75, 1.3, (2, 1)) + rng.normal(0, 0.05, (2, 3))
    density = np.tensordot(planes, vectors.astype(np.float32), axes=(0, 0))  # (side, side, 3)
    lamp = rng.uniform(225, 250) * (1 + rng.normal(0, 0.015, 3)).astype(np.float32)
    light = lamp * np.exp(-density) + 4 * rng.standard_normal(density.shape, dtype=np.float32)
    return np.asarray(np.clip(light, 0, 255), dtype=np.uint8)


def _write_tiles(
    folder: Path,
    split: str,
    name: str,
    pixels: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    boxes: Floats,
) -> list[str]:
    """Cut one slide into tiles with their labels; returns the images' paths relative to `folder`."""
    written = []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for y in range(0, SIDE, TILE):
        for x in range(0, SIDE, TILE):
            tile = f"{name}_{y}_{x}"
            inside = np.clip(boxes - [x, y, x, y], 0, TILE)
            sides = inside[:, 2:] - inside[:, :2]
            kept = sides.prod(axis=1) >= VISIBLE * area
            rows = np.concatenate([(inside[:, :2] + inside[:, 2:]) / 2, sides], axis=1)[kept] / TILE
            lines = [
                f"{c} " + " ".join(f"{v:.5f}" for v in row)
                for c, row in zip(classes[kept], rows, strict=True)
            ]
            image = f"images/{split}/{tile}.jpg"
            Image.fromarray(pixels[y : y + TILE, x : x + TILE]).save(folder / image, quality=92)
            (folder / "labels" / split / f"{tile}.txt").write_text("\n".join(lines))
            written.append(image)
    return written
