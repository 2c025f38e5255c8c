"""A study that names whole images: what its file may say, what is said of it, and that it is searched."""

import csv
import io
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import end, start
from refusals import refused, tree
from rich.console import Console
from whole_images import write_slides

from search.cli.main import main
from search.pipeline.opening import Request, make, read_request
from search.request.reading import load_config
from spaces.errors import Interrupted
from trainables.contract.trial import TileSpec, WholeImages
from trainables.data import cut_once as cutting

WHOLE: dict[str, Any] = {"images": "slides", "tile": {"size": 64, "overlap": 16}}
STUDY: dict[str, Any] = {
    "name": "whole",
    "task": "detection",
    "data": WHOLE,
    "minority": ["cluster"],
    "train": {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 4, "eval_every": 2},
    "baseline": {"seeds": 1},
    "search": {"trials": 2, "sampler": "random"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with slides."""
    write_slides(tmp_path / "work" / "slides", n=10)
    return tmp_path / "work"


def write(root: Path, **changes: Any) -> Path:
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY | changes))
    return root / "study.yaml"


def asked(root: Path, **changes: Any) -> tuple[Request, str]:
    """The request, and what was said of it."""
    console = Console(file=io.StringIO(), width=300)
    found = read_request(write(root, **changes), root / "runs", console)
    assert isinstance(console.file, io.StringIO)
    return found, console.file.getvalue()


# What the file may say


def test_paths_are_relative_to_the_study_file(root: Path) -> None:
    data = WHOLE | {"annotations": "a.json", "group_by": "groups.csv"}
    config = load_config(write(root, data=data))
    assert config.data == WholeImages(
        images=str(root / "slides"),
        annotations=str(root / "a.json"),
        group_by=str(root / "groups.csv"),
        tile=TileSpec(size=64, overlap=16),
    )
    copy = root / "copy.yaml"
    copy.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(copy) == config
    spec = config.data_spec(("cluster",))
    assert spec.place == config.data
    patterned = load_config(write(root, data=WHOLE | {"group_by": "(s).*"})).data
    assert isinstance(patterned, WholeImages)
    assert patterned.group_by == "(s).*"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": {"imges": "slides", "tile": {}}}, "data.imges: unknown key\nhint: did you mean 'images'?"),
        ({"data": {"images": "slides"}}, "data.tile: missing"),
        ({"data": {"tile": {}}}, "data.images: missing"),
        ({"data": WHOLE | {"tile": 640}}, "data.tile: should be a mapping, got 640"),
        ({"data": WHOLE | {"tile": {"sise": 1}}}, "data.tile.sise: unknown key\nhint: did you mean 'size'?"),
        ({"data": WHOLE | {"tile": {"size": 31, "overlap": 0}}}, "data.tile.size: should be greater than or"),
        (
            {"data": WHOLE | {"tile": {"size": 64, "overlap": 64}}},
            "data.tile.overlap: should be less than size, 64 pixels, got 64",
        ),
        (
            {"data": WHOLE | {"tile": {"size": 48}}},
            "data.tile.overlap: should be less than size, 48 pixels, got 64",
        ),
        (
            {"data": WHOLE | {"tile": {"overlap": -1}}},
            "data.tile.overlap: should be greater than or equal to",
        ),
        ({"data": WHOLE | {"tile": {"jpeg": "no idea"}}}, "data.tile.jpeg: should be a valid boolean"),
        ({"data": ["slides"]}, "data: should be a valid string"),
        ({"data": WHOLE, "pixel_max": 4095}, "pixel_max: for 16-bit images, and whole images have 8"),
        (
            {"data": WHOLE, "task": "classification", "train": STUDY["train"] | {"model": "small_cnn"}},
            "data: whole images are for detection, the task is classification",
        ),
        ({"data": WHOLE | {"images": "gone"}}, "data.images: no such file or folder: "),
        ({"data": WHOLE | {"annotations": "gone.json"}}, "data.annotations: no such COCO json: "),
        ({"data": WHOLE, "minority": ["clutser"]}, "no class 'clutser' in the data\nhint: did you mean"),
        ({"data": "slides"}, "hint: whole images that are to be cut are `data: {images: FOLDER, tile: {"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_cut(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], says: str
) -> None:
    file = write(root, **changes)
    refused(["check", str(file)], root, capsys, says)
    assert not (cache / "tiles").exists()


# What is said


def test_what_is_said_of_the_tiles(root: Path) -> None:
    found, said = asked(root)
    assert "note: 10 whole images as tiles of 64 pixels, 16 of overlap: train 7 -> 84, val " in said
    assert "note: the data is in one piece; it is split by source image: train 7, val" in said
    assert "objects of cluster are larger than the overlap of 16 pixels" in said
    assert "data.tile.overlap: 29 is as large as 95 % of them" in said
    assert said == asked(root)[1]  # also when they are found
    assert sum(found.summary.whole_images.values()) == 10
    assert found.summary.splits["train"].images == 84
    assert found.data.tile == TileSpec(size=64, overlap=16)
    make(found)
    with (root / "runs" / "whole" / "splits.csv").open(newline="") as stored:
        rows = list(csv.DictReader(stored))
    assert {row["image"] for row in rows} == {f"s{i}.png" for i in range(10)}
    assert read_request(root / "runs" / "whole", root, Console(file=io.StringIO())).data == found.data


def test_groups_that_a_study_names_are_called_groups(root: Path) -> None:
    found, said = asked(root, data=WHOLE | {"group_by": r"s(\d).*"})
    assert "note: the data is in one piece; it is split by group: train 7, val" in said
    assert "source" not in said
    assert found.summary.unit == "group"


def test_a_metric_of_whole_images_may_decide(root: Path) -> None:
    found, _ = asked(root, objectives=["merged/minority_recall", "map50_95"])
    assert found.config.objectives[0] == "merged/minority_recall"


def test_images_no_larger_than_a_tile_become_one_each(root: Path) -> None:
    _, said = asked(root, data=WHOLE | {"tile": {"size": 200, "overlap": 16}})
    assert "note: no image is larger than a tile of 200 pixels: each becomes one tile" in said
    assert "larger than the overlap" not in said
    assert "train 7 -> 7" in said


def test_check_says_how_many(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "slides" / "s3.txt").unlink()
    assert main(["check", str(write(root))]) == 0
    said = capsys.readouterr().out
    assert "; tiles: train 84, val" in said
    assert "10 whole images as tiles of 64 pixels" in said
    assert "1 images have no object; all their tiles count as background" in said
    assert main(["check", str(root / "study.yaml"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert sum(shown["whole_images"].values()) == 10
    assert sum(shown["images"].values()) == 120
    assert shown["one_piece"]


def test_another_content_is_another_studys(root: Path, cache: Path) -> None:
    make(asked(root)[0])
    shutil.rmtree(cache)
    again, _ = asked(root)  # cut again, and the same
    assert again.folder.provenance.data_fingerprint == again.summary.fingerprint
    (root / "slides" / "s3.txt").unlink()
    changed, _ = asked(root)
    assert changed.summary.fingerprint != again.summary.fingerprint
    assert main(["search", str(root / "runs" / "whole"), "--resume", "--here"]) == 2


def test_an_interruption_keeps_what_is_cut(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = cutting.cut_into
    cut_first: list[int] = []

    def interrupted_at_the_fourth(*given: Any, **named: Any) -> Any:
        def watch(done: int, total: int) -> None:
            cut_first.append(done)
            if done == 4:
                raise KeyboardInterrupt

        return cut(*given, **named | {"watch": watch, "workers": 1})

    monkeypatch.setattr(cutting, "cut_into", interrupted_at_the_fourth)
    with pytest.raises(Interrupted) as stop:
        asked(root)
    assert stop.value.hint == "the same command"
    assert not [*(cache / "tiles").rglob("data.yaml")]
    monkeypatch.undo()
    monkeypatch.setenv("RARECALL_CACHE", str(cache))
    kept = {str(file): file.stat().st_mtime_ns for file in (cache / "tiles").rglob("*.png")}
    assert len(kept) == 48
    asked(root)
    assert (
        kept.items()
        <= {str(file): file.stat().st_mtime_ns for file in (cache / "tiles").rglob("*.png")}.items()
    )


# Real commands


def files_below(folder: Path) -> int:
    """How many there are while others move them about."""
    return sum(len(names) for _, _, names in os.walk(folder))


@pytest.mark.slow
def test_a_search_that_is_interrupted_while_it_cuts_goes_on(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "work"
    write_slides(root / "slides", n=80)
    write(root, data=WHOLE | {"tile": {"size": 32, "overlap": 16}})
    command = start("search", "study.yaml", "--here", at=root)
    try:
        tiles = cache / "tiles"
        while command.process.poll() is None and files_below(tiles) < 20:
            time.sleep(0.01)
        os.kill(command.process.pid, signal.SIGINT)
        assert command.ended(60) == 130
        assert "Go on with:\n  the same command" in command.text
        assert "Traceback" not in command.text
    finally:
        end(command)
    assert not (root / "runs").exists()
    assert not [*tiles.rglob("data.yaml")]
    assert main(["check", str(root / "study.yaml")]) == 0
    assert [file.name for file in tiles.rglob(".partial")] == []


@pytest.mark.slow
def test_a_study_of_whole_images_is_searched_confirmed_compared_and_exported(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    confirm = {"finalists": 0, "strategies": ["weighted"], "seeds": 2, "baseline_seeds": 2, "more_seeds": 0}
    compare = {"strategies": ["weighted"], "seeds": 2, "reference_seeds": 2}
    changes = {"confirm": confirm, "compare": compare, "keep": "all"}  # trial 1 need not be on the front
    file, study = str(write(root, **changes)), str(root / "runs" / "whole")
    runs = ["--runs", str(root / "runs")]
    assert main(["search", file, "--here", *runs]) in (0, 1)
    before = tree(cache / "tiles")
    assert main(["confirm", study, "--here"]) in (0, 1)
    assert main(["compare", study, "--here"]) == 0
    assert tree(cache / "tiles") == before
    assert main(["export", study, "--trial", "1", "--out", str(root / "bundle")]) == 0
    trained = yaml.safe_load((root / "bundle" / "config.yaml").read_text())
    assert WholeImages.model_validate(trained["data"]).tile == TileSpec(size=64, overlap=16)
    assert "Traceback" not in capsys.readouterr().err
