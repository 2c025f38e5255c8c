"""The unattended benchmark of a GPU: a part that fails costs its own row, and no other."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from places import ROOT

from benchmarks.gpu import TINY, Part, Row, Sizes, carried_out, parts_of, table


def ran(code: str, limit_s: float = 60) -> Row:
    return carried_out([sys.executable, "-c", code], limit_s)


def test_a_part_says_what_it_measured_or_why_not() -> None:
    measured = Row(rate=12.5, busy=0.5, note="well")
    assert ran(f"print('bars'); print({json.dumps(asdict(measured))!r})") == measured
    raised = ran("raise ValueError('no such thing\\nhint: another')")
    assert (raised.failed, raised.note) == (True, "ValueError: no such thing")
    assert ran("raise SystemExit(3)").note == "it ended with 3"
    assert ran("", limit_s=-1) == Row(note="no time was left", failed=True)


def test_one_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    child = f"import os,time; open({str(started)!r},'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess,sys; subprocess.run([sys.executable, '-c', {child!r}])"
    begun = time.monotonic()
    assert ran(code, limit_s=5) == Row(note="not done within 5 s", failed=True)
    assert time.monotonic() - begun < 40
    time.sleep(0.5)
    stat = Path(f"/proc/{started.read_text()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_table_sets_each_figure_beside_stocks() -> None:
    parts = [Part("stock", 1, ()), Part("ours", 1, (), "stock"), Part("bad", 1, (), "stock")]
    rows = {
        "stock": Row(rate=100.0, busy=0.5, memory=3 * 2**30, cpus=1.0),
        "ours": Row(rate=150.0),
        "bad": Row(note="out of memory", failed=True),
    }
    lines = table(parts, rows)
    assert lines[1].split() == ["stock", "100.0", "50%", "3.0", "1.0"]
    assert lines[2].split() == ["ours", "150.0", "1.50"]
    assert lines[3].split() == ["bad", "FAILED:", "out", "of", "memory"]


def test_all_that_is_asked_is_measured_within_nine_minutes() -> None:
    names = [part.name for part in parts_of(Sizes())]
    assert [name for name in names if "at once" in name] == [
        f"trials, ours, {count} at once" for count in (1, 2, 4, 8)
    ]
    for model in ("yolo11n.yaml", "yolov5s.yaml"):
        assert {f"train {model}, stock", f"train {model}, ours"} <= set(names)
    assert all(part.beside in {"", *names} for part in parts_of(Sizes()))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_runs_to_its_end_though_a_model_cannot_be_trained(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--minutes", "15"]
    ran = subprocess.run(
        [*command, "--models", *TINY.models, "absent.yaml"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RARECALL_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = ran.stdout.splitlines()[1:-1]
    failed = [row for row in rows if "FAILED" in row]
    assert [row.partition(",")[0] for row in failed] == ["train absent.yaml"] * 2, ran.stdout
    assert all("train.model: no such file" in row for row in failed), ran.stdout
    assert ran.returncode == 1
    assert "detector cpu float32, classifier cpu float32" in rows[1]
