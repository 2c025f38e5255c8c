"""A folder that whole images are cut into: interrupted, gone on with, asked for differently, refused."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_images import cut_short
from PIL import Image
from refusals import tree
from small_disk import Disk
from whole_images import noise, write_slides

from spaces.errors import RunError, UsageError
from trainables.data.boxes import decoding
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.decoding import Unreadable, bands, read_pixels
from trainables.data.boxes.tiling import Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import Tiled, cut_into

GRID = Grid(64, 16)


class Killed(BaseException):
    """As SIGKILL does, nothing that is ours is told."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    write_slides(tmp_path / "slides")
    return tmp_path / "slides"


def tile(
    slides: Path,
    out: Path,
    grid: Grid = GRID,
    workers: int = 1,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Tiled:
    return cut_into(out, load_whole(slides), grid, workers=workers, watch=watch)


def contents(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def times(out: Path) -> dict[str, int]:
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in (out / "images").rglob("*.png")}


def test_several_processes_write_what_one_does(slides: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tile(slides, tmp_path / "one")
    tile(slides, tmp_path / "two", workers=2, watch=lambda done, total: told.append((done, total)))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert told == [(done, 8) for done in range(1, 9)]


def test_what_was_begun_is_gone_on_with(slides: Path, tmp_path: Path) -> None:
    tile(slides, tmp_path / "whole")
    out = tmp_path / "out"

    def killed_at_the_fourth(done: int, total: int) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        tile(slides, out, watch=killed_at_the_fourth)
    assert not (out / "data.yaml").exists()
    before = times(out)
    assert len(before) == 4 * 12
    # What a kill in the middle leaves of the fifth.
    (out / ".partial" / "train" / "s9" / "images").mkdir(parents=True)
    (out / ".partial" / "train" / "s9" / "images" / "s9_x0_y0.png").write_bytes(b"half")
    # What a power cut leaves of the first: a file without its content.
    first = next(iter(before))
    (out / first).write_bytes(b"")
    assert tile(slides, out).found == 3
    after = times(out)
    kept = [name for name in before if Path(name).parent != Path(first).parent]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert contents(out) == contents(tmp_path / "whole")


def test_a_finished_one_is_left_as_it_is(slides: Path, tmp_path: Path) -> None:
    tile(slides, tmp_path / "out")
    before, told = times(tmp_path / "out"), []
    again = tile(slides, tmp_path / "out", watch=lambda done, total: told.append(done))
    assert again.found == 8
    assert told == []
    assert times(tmp_path / "out") == before
    next((tmp_path / "out" / "labels").rglob("*.txt")).unlink()
    assert tile(slides, tmp_path / "out").found == 7


@pytest.mark.parametrize(
    ("grid", "change", "says"),
    [
        (Grid(80, 16), None, "begun with size 64, not 80"),
        (Grid(64, 17), None, "begun with overlap 16, not 17"),
        (Grid(64, 16, jpeg=True), None, "begun with format png, not jpg"),
        (GRID, "s1.txt", "cut from other images or annotations"),
        (GRID, "s1.png", "cut from other images or annotations"),
    ],
)
def test_another_request_does_not_go_into_the_same_folder(
    slides: Path, tmp_path: Path, grid: Grid, change: str | None, says: str
) -> None:
    tile(slides, tmp_path / "out")
    before = tree(tmp_path / "out")
    if change == "s1.txt":
        (slides / change).write_text("0 0.5 0.5 0.1 0.1\n")
    if change == "s1.png":
        Image.fromarray(noise(99)).save(slides / change)
    with pytest.raises(UsageError, match=says):
        tile(slides, tmp_path / "out", grid)
    assert tree(tmp_path / "out") == before


def test_a_folder_with_other_things_is_left_alone(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match=r"holds other things, e\.g\. thesis\.txt"):
        tile(slides, tmp_path / "out")
    with pytest.raises(UsageError, match="holds the images themselves"):
        tile(slides, slides)
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"--out: .*(is a file|Not a directory)"):
            tile(slides, place)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_two_at_once_do_not_write_to_one_folder(slides: Path, tmp_path: Path) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def wait(done: int, total: int) -> None:
        begun.set()
        may_end.wait(60)

    first = threading.Thread(target=lambda: tile(slides, tmp_path / "out", watch=wait))
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(UsageError, match="another process is cutting into"):
            tile(slides, tmp_path / "out")
    finally:
        may_end.set()
        first.join()
    assert tile(slides, tmp_path / "out").found == 8


# Images that turn out to be unreadable when they are decoded


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_whose_pixels_are_cut_off_is_named_and_left_out(tmp_path: Path, workers: int) -> None:
    write_slides(tmp_path / "slides", n=100)
    cut_short(tmp_path / "slides" / "s5.png")
    out = tmp_path / "out"
    assert [*tile(tmp_path / "slides", out, workers=workers).problems] == ["s5.png"]
    data = load_detection(out / "data.yaml")
    assert len({image.source for images in data.splits.values() for image in images}) == 99
    assert not [*out.rglob("s5_*")]
    assert not (out / ".partial").exists()


def test_more_than_one_percent_are_refused_and_leave_nothing(slides: Path, tmp_path: Path) -> None:
    cut_short(slides / "s5.png")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"1 of 8 images cannot be read, e\.g\. s5\.png: it is cut off"):
        tile(slides, tmp_path / "out")
    assert {path for path in tree(tmp_path) if not path.startswith("cache")} == set(before)


# The disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", "1m")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_it_and_it_goes_on_when_there_is_room(
    slides: Path, tmp_path: Path, disk: Disk, workers: int
) -> None:
    tile(slides, tmp_path / "whole")
    out = disk.root / "out"
    out.mkdir()
    with pytest.raises(RunError, match="No space left") as raised:  # noise does not compress: 1.3 MB
        tile(slides, out, workers=workers)
    assert "goes on" in raised.value.hint
    assert not (out / "data.yaml").exists()
    disk.enlarge()
    assert tile(slides, out, workers=workers).found > 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        tile(slides, tmp_path / "closed" / "out")


# Large TIFFs, a few rows at a time


ROWS = [(0, 64), (48, 112), (86, 150)]


@pytest.mark.parametrize("layout", [{"rowsperstrip": 7}, {"tile": (32, 64)}, {"rowsperstrip": 64}])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg"])
@pytest.mark.parametrize("bands_in_file", [1, 3])
def test_a_large_tiff_is_read_in_bands_of_the_same_pixels(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: dict[str, object],
    compression: str | None,
    bands_in_file: int,
) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    if compression == "jpeg" and layout != {"rowsperstrip": 64}:
        pytest.skip("parts of a JPEG have sides of whole blocks")
    pixels = noise(0)[..., :bands_in_file]
    file = tmp_path / "large.tif"
    photometric = "minisblack" if bands_in_file == 1 else "rgb"
    stored = pixels[..., 0] if bands_in_file == 1 else pixels
    tifffile.imwrite(file, stored, compression=compression, photometric=photometric, **layout)
    plain = read_pixels(file)
    assert plain is not None
    monkeypatch.setattr(decoding, "LARGE", 0)
    asked: list[Path] = []
    monkeypatch.setattr(decoding, "read_pixels", asked.append)
    for (top, bottom), band in zip(ROWS, bands(file, (150, 200), ROWS), strict=True):
        np.testing.assert_array_equal(band, plain[top:bottom])
    assert not asked


@pytest.mark.parametrize("bands_in_file", [3, 4], ids=["in one piece", "with transparency"])
def test_other_large_tiffs_are_decoded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bands_in_file: int
) -> None:
    pixels = np.dstack([noise(0), noise(1)[..., :1]])[..., :bands_in_file]
    Image.fromarray(pixels).save(tmp_path / "large.tif")
    monkeypatch.setattr(decoding, "LARGE", 0)
    plain = read_pixels(tmp_path / "large.tif")
    assert plain is not None
    found = [*bands(tmp_path / "large.tif", (150, 200), ROWS)]
    np.testing.assert_array_equal(found[2], plain[86:])


def test_a_large_tiff_that_ends_too_early_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "large.tif", noise(0), compression="zlib", photometric="rgb", rowsperstrip=7)
    content = (tmp_path / "large.tif").read_bytes()
    (tmp_path / "large.tif").write_bytes(content[:-2000])
    monkeypatch.setattr(decoding, "LARGE", 0)
    with pytest.raises(Unreadable):
        [*bands(tmp_path / "large.tif", (150, 200), ROWS)]


def test_an_image_of_another_size_than_its_header_says_is_unreadable(tmp_path: Path) -> None:
    Image.fromarray(noise(0)).save(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="200 x 150 pixels, its header says 150 x 200"):
        [*bands(tmp_path / "a.png", (200, 150), ROWS)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux counts a peak anew")
def test_a_worker_holds_at_most_four_decoded_images(tmp_path: Path) -> None:
    """In a process of its own, for what others have left there would count."""
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "classes.txt").write_text("cell\n")
    side = 3000
    for i in range(4):
        pixels = noise(i, (side // 10, side // 10)).repeat(10, axis=0).repeat(10, axis=1)
        Image.fromarray(pixels).save(tmp_path / "slides" / f"s{i}.png")
        (tmp_path / "slides" / f"s{i}.txt").write_text("0 0.5 0.5 0.01 0.01\n")
    code = f"""
from pathlib import Path
from trainables.data.boxes.tiling import Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import cut_into

def now(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

data = load_whole(Path({str(tmp_path / "slides")!r}))
Path("/proc/self/clear_refs").write_text("5")
before = now("VmRSS:")
cut_into(Path({str(tmp_path / "out")!r}), data, Grid(640, 64), workers=1, watch=lambda done, total: None)
print((now("VmHWM:") - before) / {3 * side * side})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) <= 4
