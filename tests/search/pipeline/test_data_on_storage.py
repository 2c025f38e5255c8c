"""A study whose data lie on a storage (here `file://`): its file, the data's identity, and what it leaves."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from detection_files import SLIDES, coco, write_coco
from drawn_images import write_folder
from rich.console import Console
from staging import forget
from whole_images import write_slides

from search.cli.main import main
from search.pipeline.opening import Request, continued, make, read_request
from search.request.reading import load_config
from spaces.errors import UsageError

TRAIN = {"model": "small_cnn", "imgsz": 16, "batch": 8, "steps": 4, "eval_every": 2}
CLASSIFIER: dict[str, Any] = {
    "name": "own",
    "task": "classification",
    "minority": ["b"],
    "train": TRAIN,
    "baseline": {"seeds": 1},
    "search": {"trials": 1, "sampler": "random"},
}
DETECTOR = CLASSIFIER | {
    "task": "detection",
    "minority": ["cluster"],
    "train": TRAIN | {"model": "yolo_tiny.yaml", "imgsz": 64},
}
FOLDERS = {f"{split}/{name}": n for split in ("train", "val", "test") for name, n in (("a", 8), ("b", 4))}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    forget()


def study(root: Path, request: dict[str, Any], data: object) -> Path:
    (root / "study.yaml").write_text(yaml.safe_dump(request | {"data": data}))
    return root / "study.yaml"


def asked(root: Path, request: dict[str, Any], data: object) -> Request:
    return read_request(study(root, request, data), root / "runs", Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("s4://bucket/set", "study.yaml: data: no kind of storage is called 's4'"),
        ("s3:/bucket/set", "study.yaml: data: 's3:/bucket/set' is not the address of a storage"),
        ("s3://key:word@bucket/set", "study.yaml: data: no password or key may be in the address"),
        (
            {"images": "s4://bucket/slides", "tile": {"size": 64, "overlap": 16}},
            "study.yaml: data.images: no kind of storage is called 's4'",
        ),
    ],
)
def test_what_is_no_address_is_named_with_its_key(tmp_path: Path, data: object, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_config(study(tmp_path, DETECTOR, data))
    assert said in str(refused.value)
    assert "word" not in str(refused.value).replace("password", "")


def test_a_study_names_the_address_and_goes_on_with_the_same_content_alone(tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "set", FOLDERS)
    address = f"file://{pictures}"
    request = asked(tmp_path, CLASSIFIER, f"file://{tmp_path}//set/")
    assert request.config.data == request.data.source == address
    make(request)
    there = asked(tmp_path, CLASSIFIER | {"name": "there"}, str(pictures))
    assert request.summary.fingerprint == there.summary.fingerprint
    os.utime(pictures / "train/a/000.jpg")
    typed = tmp_path / "study.yaml"
    continued(asked(tmp_path, CLASSIFIER, address), typed)
    shutil.copy(pictures / "train/a/000.jpg", pictures / "train/a/001.jpg")
    with pytest.raises(UsageError, match=f"data: {address} has changed since .* was made"):
        continued(asked(tmp_path, CLASSIFIER, address), typed)


def test_a_csv_and_a_coco_json_are_the_data_that_they_are_by_path(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", FOLDERS)
    names = [file.relative_to(tmp_path / "set") for file in sorted((tmp_path / "set").rglob("*.jpg"))]
    listed = "".join(f"{name},{name.parts[1]},{name.parts[0]}\n" for name in names)
    (tmp_path / "set" / "list.csv").write_text(f"path,label,split\n{listed}")
    whole = write_coco(tmp_path / "coco", "all.json", coco(SLIDES))
    (tmp_path / "coco" / "manifest.csv").write_text(
        "image,source\n" + "".join(f"{name},{name[:3]}\n" for name in SLIDES)
    )
    for request, file in ((CLASSIFIER, tmp_path / "set" / "list.csv"), (DETECTOR, whole)):
        staged, here = (asked(tmp_path, request, data) for data in (f"file://{file}", str(file)))
        assert staged.summary.fingerprint == here.summary.fingerprint
        assert staged.summary.listing == here.summary.listing


def test_whole_images_are_staged_and_cut_to_the_same_tiles(tmp_path: Path, cache: Path) -> None:
    write_slides(tmp_path / "slides")
    tile = {"size": 64, "overlap": 16}
    staged = asked(tmp_path, DETECTOR, {"images": f"file://{tmp_path}/slides", "tile": tile})
    here = asked(tmp_path, DETECTOR, {"images": "slides", "tile": tile})
    assert staged.data.source == f"file://{tmp_path}/slides"
    assert staged.summary.fingerprint == here.summary.fingerprint
    assert len([one for one in (cache / "tiles").iterdir() if one.is_dir()]) == 1


def test_each_command_reads_the_staged_copy_and_a_bundle_names_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "set", FOLDERS)
    study(tmp_path, CLASSIFIER, f"file://{tmp_path}/set")
    for command in (
        ["check", "study.yaml"],
        ["search", "study.yaml", "--here"],
        ["report", "runs/own"],
        ["export", "runs/own", "--baseline"],
    ):
        assert main(command) in (0, 1), capsys.readouterr()
    bundle = tmp_path / "runs" / "own" / "export" / "baseline"
    settings = json.loads((bundle / "train.json").read_text())
    assert settings["spec"]["data"]["source"] == f"file://{tmp_path}/set"
    assert "pyarrow==" in (bundle / "requirements-train.txt").read_text()
    assert (bundle / "carried" / "trainables" / "storage" / "reading.py").is_file()
    (tmp_path / "set").rename(tmp_path / "away")
    capsys.readouterr()
    assert main(["check", "study.yaml"]) == 2
    assert f"study.yaml: data: no file below file://{tmp_path}/set" in capsys.readouterr().err
    assert main(["pareto", "runs/own"]) in (0, 1)
