"""Small image files for tests: every image of a class has the class's own brightness."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def draw(seed: int, level: int, size: tuple[int, int] = (20, 14), mode: str = "RGB") -> Image.Image:
    """Noise around a level of brightness; `size` is (width, height)."""
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(np.clip(rng.normal(level, 25, shape), 0, 255).astype(np.uint8))


def write_folder(root: Path, counts: dict[str, int], mode: str = "RGB") -> Path:
    """JPEGs at `root/<folder>/<i>.jpg`: folder (`train/cat`) -> how many; the last part is the class."""
    levels = {name: i for i, name in enumerate(sorted({folder.split("/")[-1] for folder in counts}))}
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        level = 40 + 150 * levels[folder.split("/")[-1]] // max(1, len(levels) - 1)
        for i in range(count):
            seed = zlib.crc32(f"{folder}/{i}".encode())  # no two images are the same
            draw(seed, level, mode=mode).save(root / folder / f"{i:03}.jpg", quality=95)
    return root


def cut_short(file: Path) -> None:
    """What a broken transfer leaves: the first half of the file."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
