"""`rarecall check` warns of what the search and the confirmation would only note once all is paid for."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from detection_files import write_yolo
from tiled_data import draw_tiled

from search.cli.main import main
from search.judging.diagnostics import few_objects
from trainables.data.boxes.data_set import describe_detection

STUDY: dict[str, Any] = {
    "name": "mine",
    "task": "detection",
    "minority": ["cluster"],
    "train": {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 4, "eval_every": 2},
}


def boxes(cells: int, clusters: int) -> str:
    """A label file with so many of each, no two alike."""
    listed = [0] * cells + [1] * clusters
    return "".join(f"{c} {0.1 + i / 1000:.4f} .5 .2 .2\n" for i, c in enumerate(listed))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


def checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Path, **changes: Any
) -> tuple[list[str], dict[str, Any]]:
    """What a person reads, line by line, and what a program does."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY | {"data": str(data)} | changes))
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert main(["check", str(file), "--json"]) == 0
    return said, json.loads(capsys.readouterr().out)


def test_few_rare_objects_are_warned_of_in_the_words_of_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enough = {"a": boxes(100, 20), "b": boxes(0, 251)}
    data = write_yolo(tmp_path, {"train": enough, "val": {"c": boxes(1, 270)}, "test": enough})
    said, shown = checked(tmp_path, capsys, data)
    note = few_objects(270, split="val", min_gain=0.05)
    assert note is not None
    assert [line for line in said if "warning" in line] == [f"warning: support too small: {note.sentence}"]
    assert [line for line in shown["notes"] if "support" in line] == [
        f"warning: support too small: {note.sentence}"
    ]
    said, _ = checked(tmp_path, capsys, data, confirm={"min_gain": 0.051})
    assert not [line for line in said if "warning" in line]
    said, _ = checked(tmp_path, capsys, data, confirm={"min_gain": 0.04})
    assert [line.split()[5] for line in said if "warning" in line] == ["val", "test"]


def test_pieces_on_tiles_are_called_pieces_and_objects_are_those_of_whole_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = draw_tiled(tmp_path)
    said, shown = checked(tmp_path, capsys, data)
    whole = shown["whole_images"]
    assert {split: of["cluster"] for split, of in shown["objects"].items()} == {
        split: 2 * count for split, count in whole.items()
    }
    pieces = describe_detection(data).splits["train"].objects
    assert pieces["cluster"] > 2 * whole["train"]
    assert shown["pieces_on_tiles"]["train"] == pieces
    told = f"cluster ({2 * whole['train']} of {14 * whole['train']} in train, as {pieces['cluster']} of "
    assert told + f"{sum(pieces.values())} pieces on its tiles); tiles: train " in said[1]
    assert f"the val split holds {2 * whole['val']} minority objects" in "".join(said)
