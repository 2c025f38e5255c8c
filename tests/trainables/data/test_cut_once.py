"""A study's whole images are cut once on a node, by whoever needs them first, whatever comes between."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_images import cut_short
from PIL import Image
from refusals import tree
from small_disk import Disk
from tiny_detector import tiny_spec
from trials import report_of
from whole_images import boxes, noise, write_json, write_slides, yolo_text

from spaces.errors import RunError, UsageError
from trainables.contract.trial import DataSpec, TileSpec, TrialSpec, WholeImages
from trainables.data.boxes.cutting import Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.cut_once import CutOnce, cut_once, load_asked
from trainables.data.sources import boxes_of
from trainables.data.tiled import cut_into

TILE = TileSpec(size=64, overlap=16)


class Killed(BaseException):
    """As SIGKILL does, nothing that is ours is told."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    write_slides(tmp_path / "slides")
    return tmp_path / "slides"


def cut(images: Path, tile: TileSpec = TILE, *, stop_at: int = 0, **named: str) -> tuple[CutOnce, int]:
    """The tiles, and how many images were cut for them."""
    told = []

    def watch(done: int, total: int) -> None:
        told.append(done)
        if done == stop_at:
            raise Killed

    asked = WholeImages(images=str(images), tile=tile, **named)
    return cut_once(load_asked(asked), tile, workers=1, watch=watch), len(told)


def times(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*.*") if file.suffix != ".lock"}


def test_the_second_time_nothing_is_written(slides: Path, cache: Path) -> None:
    made, n = cut(slides)
    assert n == 8
    assert sum(counts.tiles for counts in made.counts.values()) == 96
    before = times(cache / "tiles")
    again, n = cut(slides)
    assert n == 0
    assert times(cache / "tiles") == before
    assert repr(again) == repr(made)
    data = made.load()
    assert data.fingerprint == made.fingerprint
    assert data.whole_images() == {"train": 6, "val": 1, "test": 1}


def test_other_content_another_grid_and_other_groups_are_other_tiles(slides: Path, tmp_path: Path) -> None:
    found = {cut(slides)[0].file, cut(slides, TileSpec(size=64, overlap=17))[0].file}
    found.add(cut(slides, TileSpec(size=64, overlap=16, jpeg=True))[0].file)
    found.add(cut(slides, group_by="(s[0-3]|s.).*")[0].file)
    (slides / "s0.txt").write_text(yolo_text(boxes(99)))
    found.add(cut(slides)[0].file)
    assert len(found) == 5


def test_an_image_retouched_where_its_digest_does_not_look_is_cut_anew(slides: Path) -> None:
    slide = slides / "s0.png"
    Image.open(slide).save(slide, format="BMP")  # uncompressed, so that it keeps its size
    before = cut(slides)[0]
    content = bytearray(slide.read_bytes())
    quarter = len(content) // 4
    content[quarter : quarter + 300] = bytes(300)
    slide.write_bytes(content)
    after, n = cut(slides)
    assert n == 8
    assert after.file != before.file
    assert after.fingerprint == before.fingerprint


def test_tiles_know_where_the_images_are_now(slides: Path, tmp_path: Path) -> None:
    made, _ = cut(slides)
    shutil.move(slides, tmp_path / "moved")
    again, n = cut(tmp_path / "moved")
    assert n == 0
    assert again.file == made.file
    truth = json.loads((made.file.parent / "whole.json").read_text())
    assert truth["info"]["images_in"] == str(tmp_path / "moved")


def test_what_was_begun_is_gone_on_with_and_what_is_lost_is_made_again(slides: Path, cache: Path) -> None:
    with pytest.raises(Killed):
        cut(slides, stop_at=3)
    (folder,) = (each for each in (cache / "tiles").iterdir() if each.is_dir())
    assert not (folder / "data.yaml").exists()
    made, n = cut(slides)
    assert n == 5
    tiles = sorted((folder / "images").rglob("*.png"))
    tiles[0].unlink()
    tiles[-1].write_bytes(b"")
    assert cut(slides)[1] == 2
    assert len(made.load().splits["train"]) == 72


@pytest.mark.parametrize("damage", ["whole.json", "manifest.csv"])
def test_tables_that_are_damaged_are_written_anew(slides: Path, damage: str) -> None:
    made, _ = cut(slides)
    (made.file.parent / damage).unlink()
    if damage == "whole.json":
        (made.file.parent / damage).write_text("{")
    assert cut(slides)[1] == 0
    assert made.load().whole_images() == {"train": 6, "val": 1, "test": 1}


def test_an_image_that_cannot_be_read_is_tried_once(tmp_path: Path) -> None:
    small = (40, 30)
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "classes.txt").write_text("cell\ncluster\n")
    for i in range(101):
        shown = noise(i, small)
        name = f"s{i:03}"
        Image.fromarray(shown).save(tmp_path / "slides" / f"{name}.png")
        (tmp_path / "slides" / f"{name}.txt").write_text(yolo_text(boxes(i, 4, small, 12), small))
    cut_short(tmp_path / "slides" / "s007.png")
    made, n = cut(tmp_path / "slides")
    assert n == 101
    assert list(made.left_out) == ["s007.png"]
    again, n = cut(tmp_path / "slides")
    assert n == 0
    assert list(again.left_out) == ["s007.png"]
    assert again.counts.keys() == made.counts.keys()
    assert sum(counts.images for counts in again.counts.values()) == 100
    assert "s007.png" not in made.load().wholes


def test_too_many_unreadable_images_leave_nothing(slides: Path, cache: Path) -> None:
    cut_short(slides / "s2.png")
    with pytest.raises(UsageError, match="1 of 8 images cannot be read"):
        cut(slides)
    assert [*tree(cache / "tiles").values()] == [0]  # the lock
    assert not any(file.is_dir() for file in (cache / "tiles").iterdir())


def test_a_full_disk_is_gone_on_with(slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "disk")
    try:
        monkeypatch.setenv("RARECALL_CACHE", str(disk.root))
        load_asked(WholeImages(images=str(slides), tile=TILE))
        disk.fill()
        with pytest.raises((RunError, UsageError)):
            cut(slides)
        (disk.root / "ballast").unlink()
        made, _ = cut(slides)
        assert made.load().whole_images() == {"train": 6, "val": 1, "test": 1}
    finally:
        disk.close()


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"annotations": "gone.json"}, "data.annotations: no such COCO json: gone.json"),
        ({"group_by": "gone.csv"}, "data.group_by: no such file: gone.csv"),
        ({"group_by": "s."}, "data.group_by: 's.' has no group"),
        ({"images": "gone"}, "data.images: no such file or folder: gone"),
    ],
)
def test_errors_name_the_keys_of_a_study(slides: Path, named: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as error:
        load_asked(WholeImages.model_validate({"images": str(slides), "tile": TILE} | named))
    assert says in str(error.value)
    assert "--" not in str(error.value)


def test_images_without_annotations_are_refused(slides: Path) -> None:
    for file in slides.glob("s*.txt"):
        file.unlink()
    with pytest.raises(UsageError, match=r"none of 8 images has an object\n.* is given by data\.annotations"):
        load_asked(WholeImages(images=str(slides), tile=TILE))


def test_tiles_are_not_put_among_the_images(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(slides / "cache"))
    with pytest.raises(UsageError, match=r"RARECALL_CACHE: .*/slides/cache/tiles lies among the images"):
        load_asked(WholeImages(images=str(slides), tile=TILE))


def test_a_json_beside_a_folder(slides: Path, tmp_path: Path) -> None:
    listed = write_slides(tmp_path / "other")
    for file in (tmp_path / "other").glob("*.txt"):
        file.unlink()
    named = {"annotations": str(write_json(tmp_path / "whole.json", listed))}
    made, n = cut(tmp_path / "other", **named)
    assert n == 8
    assert sum(counts.objects.sum() for counts in made.counts.values()) == 96


CUT = """
import sys
from trainables.contract.trial import WholeImages
from trainables.data.cut_once import cut_once, load_asked
asked = WholeImages.model_validate_json(sys.argv[1])
told = []
made = cut_once(load_asked(asked), asked.tile, workers=1, watch=lambda done, total: told.append(done))
print(len(told), sum(len(images) for images in made.load().splits.values()))
"""


def test_of_several_processes_one_cuts_and_the_others_wait(slides: Path) -> None:
    asked = WholeImages(images=str(slides), tile=TILE).model_dump_json()
    command = [sys.executable, "-c", CUT, asked]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(process.communicate(timeout=120)[0].strip() for process in running)
    assert said == ["0 96", "0 96", "8 96"]


def whole_spec(slides: Path, **changes: object) -> TrialSpec:
    spec = tiny_spec(slides, {})
    return spec.model_copy(
        update={"data": DataSpec(source=str(slides), minority=("cluster",), tile=TILE), **changes}
    )


def test_a_worker_cuts_what_its_node_lacks_and_trains_as_on_a_data_set_of_tiles(
    slides: Path, tmp_path: Path
) -> None:
    report = report_of(whole_spec(slides), tmp_path / "whole")
    whole = load_whole(slides)
    cut_into(tmp_path / "tiles", whole, Grid(64, 16), workers=1, watch=lambda done, total: None)
    other = report_of(tiny_spec(tmp_path / "tiles" / "data.yaml", {}), tmp_path / "tiled")
    assert report.metrics == other.metrics
    assert report.applied == other.applied
    data = whole_spec(slides).data
    assert boxes_of(data.place).whole_images() == {"train": 6, "val": 1, "test": 1}


def test_a_source_that_is_no_whole_images_keeps_its_key() -> None:
    plain = DataSpec(source="demo:cytology", minority=("cluster",))
    assert plain.keyed() == {"source": "demo:cytology", "minority": ["cluster"]}
    assert plain.place == "demo:cytology"
    keys = {whole_spec(Path("slides")).key, tiny_spec(Path("slides"), {}).key}
    for tile in (TileSpec(size=64, overlap=17), TileSpec(size=65, overlap=16), TILE):
        data = DataSpec(source="slides", minority=("cluster",), tile=tile)
        keys.add(tiny_spec(Path("slides"), {}).model_copy(update={"data": data}).key)
    assert len(keys) == 4
