"""Study files that no study can be made of."""

import os
from pathlib import Path

import pytest
from refusals import refused

GOOD = """\
name: toy
task: toy
data: demo:toy
minority: [rare]
train: {model: toy, steps: 20, eval_every: 10}
space: classification
"""
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)


def without(key: str) -> str:
    return "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(f"{key}:"))


def replaced(key: str, value: str) -> str:
    return f"{without(key)}{key}: {value}\n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "a mapping of keys expected", id="empty"),
        pytest.param("[1, 2]", "a mapping of keys expected", id="a list"),
        pytest.param("study", "a mapping of keys expected", id="a word"),
        pytest.param(GOOD + "name: other\n", "'name' stands twice", id="a key that stands twice"),
        pytest.param("name:\n\ttask: toy", "not readable as yaml", id="tabs"),
        pytest.param(GOOD + BOMB, "unfold to more than", id="an alias bomb beside the keys"),
        pytest.param(
            BOMB + "minority: *a9\n" + without("minority"),
            "unfold to more than",
            id="an alias bomb as a value",
        ),
        pytest.param(GOOD + "search: {seed: " + "9" * 5000 + "}", "digits", id="an integer of 5,000 digits"),
        pytest.param(GOOD + "search: {seed: 2026-02-30}", "search.seed", id="a date that does not exist"),
        pytest.param(GOOD + "? [a, b]\n: c\n", "a list as a key", id="a list as a key"),
        pytest.param(GOOD + "? {a: b}\n: c\n", "a mapping as a key", id="a mapping as a key"),
        pytest.param(GOOD + "7: c\n", "should be strings, got 7", id="a number as a key"),
        pytest.param(replaced("data", '"a\\0b.yaml"'), "data: ", id="NUL in a path"),
        pytest.param(GOOD.encode() + b"\0", "not readable as yaml", id="NUL in the file"),
        pytest.param(GOOD.encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not readable as yaml", id="a picture"),
        pytest.param(("# é\n" + GOOD).encode("latin-1"), "UTF-8", id="latin-1"),
        pytest.param("[" * 20000, "nested", id="nested 20,000 times"),
        pytest.param(
            GOOD + "x: !!python/object/apply:os.system [ls]\n", "not readable", id="a tag that runs code"
        ),
        pytest.param(GOOD + "#" * 20_000_000, "20 MB", id="a file of 20 MB"),
        pytest.param(without("task"), "task: missing", id="no task"),
        pytest.param(replaced("task", "segmentation"), "task: ", id="no such task"),
        pytest.param(replaced("name", "../out"), "name: ", id="a name that leaves the folder"),
        pytest.param(replaced("name", '"a\\e[31mred"'), "control character", id="terminal escapes in a name"),
        pytest.param(replaced("name", "n" * 300), "name: ", id="a name too long for a folder"),
        pytest.param(replaced("minority", "[]"), "minority: at least one class", id="no minority"),
        pytest.param(replaced("minority", "[rare, rare]"), "rare", id="a minority class twice"),
        pytest.param(
            replaced("minority", '["a\\e]0;x\\a"]'), "a control character", id="terminal escapes in a class"
        ),
        pytest.param(replaced("minority", "{rare: 1}"), "minority: ", id="a minority that is a mapping"),
        pytest.param(
            replaced("minority", f"[{'x' * 5000}]"), "minority: no class", id="a class name of 5,000 letters"
        ),
        pytest.param(
            replaced("train", "{model: toy, steps: 0, eval_every: 1}"), "train.steps", id="no steps"
        ),
        pytest.param(
            replaced("train", "{model: toy, steps: 20, eval_every: 10, lr: .nan}"),
            "train.lr",
            id="a rate that is nan",
        ),
        pytest.param(
            replaced("train", "{model: toy, steps: 20, eval_every: 10, lr: .inf}"),
            "train.lr",
            id="an infinite rate",
        ),
        pytest.param(replaced("train", "[1]"), "train: ", id="train is a list"),
        pytest.param(replaced("train", "null"), "train: ", id="train is null"),
        pytest.param(
            GOOD + "guards: [{metric: macro_f1}]", "max_drop: missing", id="a guard without a limit"
        ),
        pytest.param(
            GOOD + "guards: [{metric: map50_95, max_drop: .nan}]",
            "finite number, got nan",
            id="a limit that is nan",
        ),
        pytest.param(
            GOOD + "guards: [{metric: map50_95, floor: .inf}]",
            "finite number, got inf",
            id="a floor that is infinite",
        ),
        pytest.param(GOOD + "guards: {a: 1}", "guards: ", id="guards are a mapping"),
        pytest.param(GOOD + "objectives: [minority_recall]", "objectives", id="one objective"),
        pytest.param(replaced("space", "{retention: [0.9, 0.1]}"), "retention", id="a range upside down"),
        pytest.param(replaced("space", "{retention: [.nan, 1]}"), "retention", id="a range that is nan"),
        pytest.param(replaced("space", "{retention: {choices: []}}"), "retention", id="no choices"),
        pytest.param(replaced("space", "everything"), "space: ", id="no such preset"),
        pytest.param(replaced("space", "[1]"), "space", id="a space that is a list"),
        pytest.param(GOOD + "search: {trials: 0}", "search.trials", id="no trials"),
        pytest.param(GOOD + "search: {seed: -1}", "search.seed", id="a negative seed"),
        pytest.param(GOOD + "search: {seed: 1" + "0" * 30 + "}", "search.seed", id="a seed of 31 digits"),
        pytest.param(GOOD + "resources: {cpu: .nan}", "resources.cpu", id="CPUs that are nan"),
        pytest.param(GOOD + "resources: {gpu: -1}", "resources.gpu", id="a negative GPU"),
        pytest.param(GOOD + "confirm: {alpha: 2}", "confirm.alpha", id="an alpha of 2"),
        pytest.param(GOOD + "compare: {strategies: [plain, plain]}", "named twice", id="a strategy twice"),
        pytest.param(GOOD + "baseline: {strategy: best}", "no such strategy 'best'", id="no such strategy"),
    ],
)
def test_a_study_file(
    content: str | bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    refused(["check", str(file)], tmp_path, capsys, says)


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_circle(path: Path) -> None:
    path.symlink_to(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [a_fifo, a_circle, a_device, Path.mkdir])
def test_a_study_file_that_is_no_file(make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "study.yaml")
    refused(["check", str(tmp_path / "study.yaml")], tmp_path, capsys, "study.yaml")
    refused(
        ["search", str(tmp_path / "study.yaml"), "--runs", str(tmp_path / "runs")], tmp_path, capsys, "stud"
    )
