"""`rarecall tile` as a person types it: what it says, what it refuses, killed and gone on with."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, alive, end, start
from refusals import refused
from whole_images import noise, write_json, write_slides, write_whole_splits

from search.cli.main import main
from trainables.data.boxes.data_set import describe_detection
from trainables.data.boxes.tiles import read_tiles

SMALL = ("--size", "64", "--overlap", "16", "--workers", "1")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    write_slides(tmp_path / "slides")
    return tmp_path / "slides"


def test_it_says_what_it_made(slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (slides / "s3.txt").unlink()
    assert main(["tile", str(slides), "--out", str(tmp_path / "out"), *SMALL]) == 0
    said = capsys.readouterr()
    for word in ("train", "val", "test", "cluster", "dropped pieces", str(tmp_path / "out" / "data.yaml")):
        assert word in said.out
    assert "note: the data is in one piece; it is split by source image: train 6, val 1, test 1" in said.err
    assert "note: 1 images have no object; all their tiles count as background" in said.err
    assert main(["tile", str(slides), "--out", str(tmp_path / "out"), *SMALL, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["images_found_done"] == 8
    assert shown["minority"] == ["cluster"]
    assert sum(split["tiles"] for split in shown["splits"].values()) == 96
    assert sum(split["objects"]["cluster"] for split in shown["splits"].values()) == 7
    assert sum(split["images_without_objects"] for split in shown["splits"].values()) == 1
    tiles = read_tiles(tmp_path / "out" / "data.yaml")
    assert tiles is not None
    assert len(tiles.sources) == 8


def test_what_is_grouped_is_counted_in_groups(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"s{i}.png,patient {i // 2}" for i in range(8)]
    (tmp_path / "groups.csv").write_text("\n".join(["image,group", *lines]))
    grouped = ["--group-by", str(tmp_path / "groups.csv")]
    assert main(["tile", str(slides), "--out", str(tmp_path / "out"), *SMALL, *grouped]) == 0
    told = "note: the data is in one piece; it is split by group: train 2, val 1, test 1 groups"
    assert told in capsys.readouterr().err
    assert describe_detection(tmp_path / "out" / "data.yaml").unit == "group"  # so that a report says it, too
    (tmp_path / "groups.csv").write_text("image,group\n" + "\n".join(f"s{i}.png,one" for i in range(8)))
    assert main(["tile", str(slides), "--out", str(tmp_path / "again"), *SMALL, *grouped]) == 2
    assert "all images come from one group, one, so they cannot be split by group" in capsys.readouterr().err


@pytest.mark.parametrize(("overlap", "warned"), [(16, True), (30, False)])
def test_an_overlap_under_most_of_the_minority_is_warned_of(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overlap: int, warned: bool
) -> None:
    arguments = ["--size", "64", "--overlap", str(overlap), "--workers", "1"]
    assert main(["tile", str(slides), "--out", str(tmp_path / "out"), *arguments]) == 0
    said = capsys.readouterr().err
    assert ("objects of cluster are larger than the overlap of 16 pixels" in said) == warned
    assert ("as large as 95 % of them" in said) == warned


def test_the_minority_can_be_named(slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tile", str(slides), "--out", str(tmp_path / "out"), *SMALL, "--json", "--minority", "cell"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["minority"] == ["cell"]
    assert "of 88 objects of cell are larger than" in said.err


# What is refused


def nothing(root: Path) -> None:
    """All is as it should be, but for the arguments."""


def an_unknown_annotation(root: Path) -> None:
    stored = json.loads((root / "whole.json").read_text())
    stored["annotations"][0]["image_id"] = 99
    (root / "whole.json").write_text(json.dumps(stored))


def a_box_outside(root: Path) -> None:
    stored = json.loads((root / "whole.json").read_text())
    stored["annotations"][0]["bbox"] = [190, 10, 20, 200]
    stored["annotations"][1]["bbox"] = [200, 10, 20, 20]
    (root / "whole.json").write_text(json.dumps(stored))


def a_missing_image(root: Path) -> None:
    (root / "slides" / "s2.png").unlink()


def a_cut_image(root: Path) -> None:
    content = (root / "slides" / "s2.png").read_bytes()
    (root / "slides" / "s2.png").write_bytes(content[:1000])


def garbage(root: Path) -> None:
    (root / "slides" / "s2.png").write_bytes(noise(0).tobytes())


def one_image(root: Path) -> None:
    for i in range(1, 8):
        (root / "slides" / f"s{i}.png").unlink()
        (root / "slides" / f"s{i}.txt").unlink()


JSON = ["--annotations", "whole.json"]


@pytest.mark.parametrize(
    ("damage", "images", "arguments", "says"),
    [
        (nothing, "slides", ["--overlap", "64", "--size", "64"], "--overlap: from 0 to less than --size, 64"),
        (nothing, "slides", ["--overlap", "-1"], "--overlap: from 0"),
        (nothing, "slides", ["--size", "0"], "--size: at least 32 pixels, got 0"),
        (nothing, "slides", ["--workers", "0"], "--workers: at least 1"),
        (nothing, "slides", ["--size", "big"], "invalid int value"),
        (nothing, "slides", ["--minority", "clutser"], "did you mean 'cluster'?"),
        (nothing, "slides", ["--annotations", "gone.json"], "no such COCO json: gone.json"),
        (nothing, "slides", ["--annotations", "slides"], "no such COCO json: slides"),
        (nothing, "slides", ["--group-by", "gone.csv"], "no such file: gone.csv"),
        (nothing, "slides", ["--group-by", "(s"], "is no regular expression"),
        (nothing, "slides", ["--group-by", "s."], "has no group"),
        (nothing, "slides", ["--group-by", r"(p\d+)_.*"], "finds no group in 's"),
        (nothing, "gone", [], "no such file or folder: gone"),
        (nothing, "slides/s0.png", [], "no folder of images, data.yaml or COCO json"),
        (nothing, "whole.json", [], "8 of 8 images do not exist"),
        (nothing, "set/data.yaml", JSON, "--annotations is for a folder"),
        (nothing, "slides", ["--out", "slides"], "holds the images themselves"),
        (nothing, "slides", ["--out", "slides/tiles"], "lies among the images"),
        (nothing, "set/data.yaml", ["--out", "set/images/train/tiles"], "lies among the images"),
        (nothing, "slides", ["--out", "set"], "holds other things"),
        (an_unknown_annotation, "slides", JSON, "no such image_id: 99"),
        (a_box_outside, "slides", JSON, "lies outside its image, 200 x 150"),
        (a_missing_image, "slides", JSON, "1 of 8 images do not exist"),
        (a_missing_image, "slides", [], "labels of no image"),
        (a_cut_image, "slides", [], "1 of 8 images cannot be read, e.g. s2.png"),
        (garbage, "slides", [], "1 of 8 images cannot be read, e.g. s2.png"),
        (one_image, "slides", [], "all images come from one source, s0.png"),
    ],
)
def test_what_is_refused_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    images: str,
    arguments: list[str],
    says: str,
) -> None:
    write_json(tmp_path / "whole.json", write_slides(tmp_path / "slides"))
    write_whole_splits(tmp_path / "set", {"train": 2, "val": 2})
    damage(tmp_path)
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "out"]
    workers = [] if "--workers" in arguments else ["--workers", "1"]
    refused(["tile", images, *out, *workers, *arguments], tmp_path, capsys, says)


# Ended from outside


def begun(tmp_path: Path, until: int) -> Command:
    """The command in a process of its own, once it has cut so many images."""
    command = start("tile", "slides", "--out", "out", "--size", "64", "--overlap", "16", at=tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and command.process.poll() is None:
        if len([*(tmp_path / "out").glob("images/*/*")]) >= until:
            return command
        time.sleep(0.002)
    end(command)
    raise AssertionError(command.text)


def names(out: Path) -> list[str]:
    return sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())


@pytest.mark.slow
def test_killed_again_and_again_it_makes_what_an_undisturbed_run_makes(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides", n=200)
    assert main(["tile", str(tmp_path / "slides"), "--out", str(tmp_path / "whole"), *SMALL]) == 0
    for until in (1, 20, 60):
        command = begun(tmp_path, until)
        family = command.family()
        os.kill(command.process.pid, signal.SIGKILL)
        command.process.wait()
        deadline = time.monotonic() + 20
        while alive(family) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(family), "a worker outlives the command"
        assert not (tmp_path / "out" / "data.yaml").exists()
    assert main(["tile", str(tmp_path / "slides"), "--out", str(tmp_path / "out"), *SMALL]) == 0
    assert names(tmp_path / "out") == names(tmp_path / "whole")
    for name in names(tmp_path / "whole"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    write_slides(tmp_path / "slides", n=60)
    command = begun(tmp_path, 5)
    family = command.family()
    command.send(number)
    assert command.ended(20) == 130
    assert "Traceback" not in command.text
    assert "interrupted; nothing finished is lost. Go on with:" in command.text
    assert "rarecall tile slides --out out --size 64 --overlap 16" in command.text
    assert not alive(family)
    assert not (tmp_path / "out" / "data.yaml").exists()


def test_a_file_that_is_no_picture_is_named_where_ultralytics_is_loaded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # With Ultralytics comes an `Image.open` of its own in Pillow's place.
    import trainables.detector.settled  # noqa: F401, PLC0415

    write_slides(tmp_path / "slides")
    garbage(tmp_path)
    monkeypatch.chdir(tmp_path)
    argv = ["tile", "slides", "--out", "out", "--workers", "1"]
    refused(argv, tmp_path, capsys, "1 of 8 images cannot be read, e.g. s2.png")
