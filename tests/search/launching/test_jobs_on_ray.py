"""Ray Jobs on a real head that has no rarecall and wants a token: a study that brings all it needs."""

import json
import time
from pathlib import Path

import psutil
import pytest
import yaml
from detection_files import plain
from job_head import WHY_NOT, JobHead, job_head
from places import ROOT
from wheels import build_wheel

from search.record.folder import StudyFolder

STUDY = {
    "name": "cells",
    "task": "classification",
    "data": "cells",
    "minority": ["rare"],
    "train": {"model": "small_cnn", "imgsz": 8, "batch": 4, "steps": 4, "eval_every": 2},
    "guards": [],
    "baseline": {"seeds": 1},
    "search": {"trials": 2, "sampler": "random"},
}


def draw_cells(root: Path) -> None:
    for split, count in {"train": 8, "val": 4}.items():
        for label in ("common", "rare"):
            (root / split / label).mkdir(parents=True)
            for i in range(count if label == "common" else 2):
                plain((8, 8), f"{split}{label}{i}").save(root / split / label / f"{i}.png")


def launched(head: JobHead, at: Path, **changes: str) -> tuple[int, str]:
    """What came of a launch, with this rarecall: an exit code, and what was said."""
    done = head.typed(
        "rarecall", "launch", "study.yaml", "--on", "jobs", "--address", head.address, "--runs", "there",
        at=at, PYTHONPATH=str(ROOT), **changes,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def job(head: JobHead, what: str, name: str, at: Path) -> str:
    said = head.typed("ray.scripts.scripts", "job", what, name, "--address", head.address, at=at)
    return said.stdout + said.stderr


def reads_from_elsewhere(head: JobHead, at: Path) -> None:
    """Status, pareto and report of the study, by a machine that does not see its folder."""
    where, laptop = f"{head.address}{at}/there/cells", at / "laptop"
    laptop.mkdir()

    def read(*command: str) -> tuple[int, str, str]:
        done = head.typed("rarecall", *command, at=laptop, PYTHONPATH=str(ROOT))
        return done.returncode, done.stdout, done.stderr

    code, out, err = read("status", where, "--json")
    assert (code, json.loads(out)["complete"]) == (0, 2), err
    code, out, err = read("pareto", where, "--all", "--csv")
    assert (code, len(out.splitlines())) == (0, 4), err  # a header, the baseline, two trials
    code, out, err = read("report", where, "--no-pictures")
    assert (code, out.endswith(" -> cells/report.html\n")) == (0, True), err
    assert (laptop / "cells" / "report.html").read_text().endswith("</html>\n")
    code, out, err = read("status", f"{where}-not")
    assert (code, out) == (2, ""), err
    assert "no study in " in err
    code, _, err = read("confirm", where)
    assert (code, "by status, pareto and report alone" in err) == (2, True), err


@pytest.mark.cluster
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.timeout(1800)
def test_a_study_brings_its_data_and_rarecall_to_a_head_that_has_neither(tmp_path: Path) -> None:
    draw_cells(tmp_path / "cells")
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    with job_head(tmp_path) as head:
        assert head.typed("rarecall", "--help", at=tmp_path).returncode == 1, "this Python has a rarecall"
        (tmp_path / "wrong").write_text("another-token-0123456789abcdef")
        (tmp_path / "wrong").chmod(0o600)
        for why, changes in {
            "it wants a token": {"RAY_AUTH_MODE": "disabled"},
            "it refuses this token": {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")},
        }.items():
            began = time.monotonic()
            code, said = launched(head, tmp_path, **changes)
            assert (code, why in said, "RAY_AUTH_MODE" in said) == (3, True, True), said
            assert time.monotonic() - began < 100  # most of it imports

        code, said = launched(head, tmp_path)
        assert (code, "No module named rarecall" in said) == (3, True), said

        wheel = build_wheel(tmp_path)
        study.write_text(yaml.safe_dump(STUDY | {"launch": {"wheel": wheel.name}}))
        code, said = launched(head, tmp_path)
        assert code == 0, said
        name = said.partition("submitted: ")[2].split()[0]
        code, again = launched(head, tmp_path)
        assert (code, f"the job {name} works on" in again) == (2, True), again
        processes = psutil.process_iter(["cmdline"])
        assert not [one for one in processes if head.token in " ".join(one.info["cmdline"] or ())]

        until = time.monotonic() + 400
        while "succeeded" not in (state := job(head, "status", name, tmp_path)):
            assert "failed" not in state, job(head, "logs", name, tmp_path)
            assert time.monotonic() < until, job(head, "logs", name, tmp_path)
            time.sleep(2)
        logs = job(head, "logs", name, tmp_path)
        reads_from_elsewhere(head, tmp_path)
    folder = StudyFolder(tmp_path / "there" / "cells")
    assert len(folder.open("look").trials()) == 2
    assert str(folder.config.data).startswith(str(tmp_path / "there" / "data"))
    assert (Path(str(folder.config.data)) / "train" / "rare" / "1.png").is_file()
    assert head.token not in logs
    kept = [*(tmp_path / "there").rglob("*"), tmp_path / "study.job.zip"]
    assert not [file for file in kept if file.is_file() and head.token.encode() in file.read_bytes()]
