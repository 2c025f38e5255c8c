"""Studies whose data lie on a real S3 server (moto's): each node stages them once; what may fail there."""

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import RARECALL
from drawn_images import write_folder
from pyarrow.fs import FileSystem, LocalFileSystem, copy_files
from raylets import raylets
from s3_server import KEYS, S3, WHY_NOT, s3_server
from staging import ended, staging
from tiny_detector import SIDE, draw_tiles

from spaces.errors import UsageError
from trainables.data.sources import bring
from trainables.storage.address import parsed
from trainables.storage.reading import Storage, StorageAway

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
OPEN = {"RAY_AUTH_MODE": "disabled"}
SMALL: dict[str, Any] = {"baseline": {"seeds": 2}, "search": {"trials": 2, "sampler": "random"}}
CLASSIFIER = SMALL | {
    "name": "pictures",
    "task": "classification",
    "minority": ["b"],
    "train": {"model": "small_cnn", "imgsz": 16, "batch": 8, "steps": 60, "eval_every": 20},
}
DETECTOR = SMALL | {
    "name": "tiles",
    "task": "detection",
    "minority": ["cluster"],
    "train": {"model": "yolo_tiny.yaml", "imgsz": SIDE, "batch": 4, "steps": 8, "eval_every": 4},
}


@pytest.fixture(autouse=True, scope="module")
def keys() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (KEYS | OPEN).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3") / "moto.log"


@pytest.fixture(scope="module")
def s3(keys: None, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    pictures = write_folder(
        tmp_path_factory.mktemp("pictures") / "set",
        {
            f"{split}/{name}": count
            for split in ("train", "val", "test")
            for name, count in (("a", 9), ("b", 4))
        },
    )
    tiles = draw_tiles(tmp_path_factory.mktemp("tiles") / "set", {"train": 12, "val": 8, "test": 6}).parent
    with s3_server(log.parent) as server:
        system, _ = FileSystem.from_uri(server.address("bucket"))
        for name, folder in (("pictures", pictures), ("tiles", tiles)):
            copy_files(
                str(folder),
                f"bucket/{name}",
                source_filesystem=LocalFileSystem(),
                destination_filesystem=system,
                use_threads=False,
            )
        yield server


def fetched(log: Path, below: str) -> Counter[str]:
    """Key of each object -> how often it was read."""
    return Counter(re.findall(rf"GET /bucket/({below}/\S+) HTTP", log.read_text()))


def rarecall(*args: str, at: Path, cache: str) -> str:
    done = subprocess.run(
        [RARECALL, *args],
        cwd=at,
        env=os.environ | {"RARECALL_CACHE": str(at / cache)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def request(at: Path, study: dict[str, Any], data: str) -> str:
    (at / "study.yaml").write_text(yaml.safe_dump(study | {"data": data}))
    return "study.yaml"


@pytest.mark.parametrize(
    ("study", "name"),
    [(CLASSIFIER, "pictures"), (DETECTOR, "tiles/data.yaml")],
    ids=["classifier", "detector"],
)
def test_two_nodes_stage_the_data_once_each_and_every_command_reads_them_there(
    s3: S3, log: Path, tmp_path: Path, study: dict[str, Any], name: str
) -> None:
    file, below = request(tmp_path, study, s3.address(f"bucket/{name}")), name.partition("/")[0]
    there = f"runs/{study['name']}"
    for node in ("head", "worker"):
        (tmp_path / node).mkdir()
    with raylets(OPEN | KEYS | {"RARECALL_CACHE": str(tmp_path / "head")}) as cluster:
        cluster.start(
            f"--address={cluster.address}", environment={"RARECALL_CACHE": str(tmp_path / "worker")}
        )
        rarecall("check", file, at=tmp_path, cache="head")
        once = fetched(log, below)
        assert once.pop(f"{below}/data.yaml", 2) == 2  # also to see whether it names what lies elsewhere
        assert set(once.values()) == {1}
        rarecall("search", file, "--address", cluster.address, at=tmp_path, cache="head")
        twice = fetched(log, below)
        assert [twice[key] for key in once] == [2] * len(once)
        for node in ("head", "worker"):
            assert len([one for one in (tmp_path / node / "staged").iterdir() if one.is_dir()]) == 1
    for command in (
        ("search", there, "--resume", "--here"),
        ("confirm", there, "--trial", "0", "--seeds", "2", "--baseline-seeds", "2", "--one-look", "--here"),
        ("report", there),
        ("export", there, "--baseline"),
    ):
        rarecall(*command, at=tmp_path, cache="head")
    assert fetched(log, below) == twice


def test_two_processes_of_a_node_fetch_what_s3_holds_once(s3: S3, log: Path, tmp_path: Path) -> None:
    before, cache = fetched(log, "pictures"), {"RARECALL_CACHE": str(tmp_path)}
    both = [
        staging(s3.address("bucket/pictures"), tmp_path / "log", pause_s=0.05, environment=cache)
        for _ in range(2)
    ]
    first, second = map(ended, both)
    assert first == second
    assert Path(first.strip()).is_dir()
    more = fetched(log, "pictures") - before
    assert len(more) == 39
    assert set(more.values()) == {1}


def test_a_storage_that_is_away_for_a_while_is_waited_for(s3: S3, tmp_path: Path) -> None:
    cache = {"RARECALL_CACHE": str(tmp_path)}
    process = staging(s3.address("bucket/pictures"), tmp_path / "log", pause_s=0.2, environment=cache)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "log").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        with s3.away():
            time.sleep(15)
        assert Path(ended(process).strip().splitlines()[0]).is_dir()
    finally:
        process.kill()


def test_one_that_stays_away_is_told(tmp_path: Path) -> None:
    with s3_server(tmp_path) as server:
        storage = Storage(parsed(server.address("bucket/set")), patience_s=1.0)
        assert storage.listed() == {}
    with pytest.raises(StorageAway, match="s3://bucket/set cannot be used: "):
        storage.fetch("a.jpg", tmp_path / "a.jpg")


def test_who_may_not_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "3")  # moto's: so many may be done by anybody
    with (
        s3_server(tmp_path) as server,
        pytest.raises(UsageError, match=r"s3://bucket/set lets this machine not in: .*ACCESS_DENIED"),
    ):
        bring(server.address("bucket/set/data.yaml"), "detection")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("nobucket/pictures", "there is no bucket 'nobucket'"),
        ("bucket/nowhere", "no file below s3://bucket/nowhere"),
        ("bucket/pictures/list.csv", "no such file: s3://bucket/pictures/list.csv"),
    ],
)
def test_what_is_not_there_is_told(s3: S3, tmp_path: Path, named: str, said: str) -> None:
    file = request(tmp_path, CLASSIFIER, s3.address(named))
    done = subprocess.run(
        [RARECALL, "check", file],
        cwd=tmp_path,
        env=os.environ | {"RARECALL_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "cache" / "staged").exists()
