"""What files of others may take, and whom trust reaches."""

import os
import resource
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from strangers import bomb

from spaces.errors import UsageError
from trainables.contract.predictions import load_predictions
from trainables.contract.trust import (
    PICKLE_BYTES,
    SPARE_BYTES,
    also_trusting,
    bounded_memory,
    pickles_in,
    refuse_bomb,
    trusting_weights,
    trusts_weights,
)

GIB = 2**30


def test_nobody_is_trusted_unless_told_and_no_longer_than_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRUST_WEIGHTS", "RARECALL_TRUST_WEIGHTS", "ULTRALYTICS_TRUST_WEIGHTS"):
        monkeypatch.setenv(name, "1")
    assert not trusts_weights()
    with trusting_weights(True):
        assert trusts_weights()
        assert also_trusting("rarecall search x --resume") == "rarecall search x --resume --trust-weights"
    assert not trusts_weights()
    assert also_trusting("rarecall search x --resume") == "rarecall search x --resume"


def test_trust_in_one_thread_is_none_in_another() -> None:
    seen: list[bool] = []
    with trusting_weights(True):
        other = threading.Thread(target=lambda: seen.append(trusts_weights()))
        other.start()
        other.join()
    assert seen == [False]


def test_a_pickle_that_unpacks_to_too_much_is_refused_by_its_index(tmp_path: Path) -> None:
    file = bomb(tmp_path / "w.pt", "w/data.pkl", PICKLE_BYTES // 2**20 + 1)
    assert file.stat().st_size < 2**18
    with pytest.raises(UsageError, match=r"w\.pt: a pickle of 34,603,008 bytes in it"):
        pickles_in(file)


def test_a_pickle_that_is_larger_than_its_index_says_is_damaged(tmp_path: Path) -> None:
    file = bomb(tmp_path / "w.pt", "w/data.pkl", 64, says=1000)
    with pytest.raises(UsageError, match=r"w\.pt: cannot be unpacked"):
        pickles_in(file)


def test_one_that_is_smaller_than_its_index_says_is_refused_too(tmp_path: Path) -> None:
    file = bomb(tmp_path / "w.pt", "w/data.pkl", 1, says=3 * GIB)
    with pytest.raises(UsageError, match="that unpack to 3,221,225,472"):
        pickles_in(file)


def test_stored_tensors_may_be_as_large_as_they_are(tmp_path: Path) -> None:
    """Their size on the disk is what counts: a sparse file of 3 GiB takes none of it here."""
    file = tmp_path / "w.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}.")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("w/data/0", b"")
        entry = archive.getinfo("w/data/0")
        entry.file_size = entry.compress_size = 3 * GIB
    with file.open("r+b") as stored:
        stored.truncate()
    grown = tmp_path / "grown.pt"
    grown.write_bytes(bytes(0))
    with grown.open("r+b") as stored:
        stored.seek(3 * GIB)
        stored.write(file.read_bytes())
    refuse_bomb(grown)


def test_predictions_that_unpack_to_too_much_are_not_read(tmp_path: Path) -> None:
    file = bomb(tmp_path / "predictions.npz", "version.npy", 1, says=4 * GIB)
    with pytest.raises(UsageError, match=r"predictions\.npz: .* bytes that unpack to 4,294,967,296"):
        load_predictions(file)


def test_the_predictions_of_large_sets_shrink_less_than_a_bomb(tmp_path: Path) -> None:
    """Names of images and matches, which shrink most, of 20,000 images with 300 boxes each."""
    rng = np.random.default_rng(0)
    images, boxes = 5_000, 300_000
    np.savez_compressed(
        tmp_path / "p.npz",
        image=np.array([f"slide_{i // 100:03}_x{i % 100:04}.png" for i in range(images)]),
        pred_image=rng.integers(0, images, boxes),
        pred_class=np.zeros(boxes, dtype=int),
        pred_match=np.zeros((boxes, 10), dtype=bool),
        pred_ignored=np.zeros(boxes, dtype=bool),
        pred_score=np.sort(rng.random(boxes).astype(np.float32)),
    )
    with zipfile.ZipFile(tmp_path / "p.npz") as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    assert unpacked < 15 * (tmp_path / "p.npz").stat().st_size


def test_reading_a_small_file_cannot_take_all_memory(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"small")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with (
        pytest.raises(UsageError, match="small: 5 bytes that take 2,147,483,648 more to read"),
        bounded_memory(tmp_path / "small"),
    ):
        bytearray(SPARE_BYTES + 2**28)  # what is free already counts, too
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with bounded_memory(tmp_path / "small"):
        assert len(bytearray(2**20)) == 2**20


def test_other_errors_pass_and_leave_no_bound(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(RuntimeError, match="another"), bounded_memory(Path(__file__)):
        raise RuntimeError("another")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


CHECK = """
import sys
from search.cli.main import main

code = main(["check", sys.argv[1]])
with open("/proc/self/status") as status:
    peak_kib = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(code, int(peak_kib) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("says", [None, 1_000], ids=["an honest index", "an index that lies"])
def test_check_refuses_a_bomb_of_4_gib_in_little_memory(
    says: int | None, tiles: Path, tmp_path: Path
) -> None:
    file = bomb(tmp_path / "w.pt", "w/data.pkl", 4096, says=says)
    assert file.stat().st_size < 20 * 2**20
    (tmp_path / "study.yaml").write_text(
        f"{{name: b, task: detection, data: {tiles}, minority: [cluster], "
        "train: {model: w.pt, imgsz: 64, steps: 2, eval_every: 1}}"
    )
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path / "study.yaml")],
        capture_output=True,
        text=True,
        env=os.environ | {"RARECALL_CACHE": str(tmp_path)},
        check=True,
    )
    code, peak_mib = map(int, done.stdout.split())
    assert code == 2, done.stderr
    assert "w.pt" in done.stderr
    assert len(done.stderr) < 500
    assert peak_mib < 400  # half of it is what the command loads anyway
