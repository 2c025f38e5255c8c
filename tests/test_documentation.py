"""Everything that README says is run, and what the pages of `docs` say is run where that is cheap.

The fast half knows every block and looks at what it can without training: arguments, study files, names. The
slow half types README's commands and those of some pages in a folder of their own, as they are written and in
their order; only the study files in that folder ask for less, so that it takes minutes. Not typed:

- `pip install …`, `pytest` and `mkdocs serve`: CI runs the first two in a fresh environment, and builds the
  pages. Here it is seen that the extras and the lock exist.
- What wants a cluster: `ray up …` would start machines, `--address auto` and `rarecall launch …` want them.
  Ray's and rarecall's own parsers read the arguments; Ray's validation of `cluster.yaml` is in
  `test_packaging`.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import RARECALL, end, start
from fenced import PAGES, Block, blocks, words
from places import EXAMPLES, ROOT
from ray.scripts.scripts import cli as ray_cli
from tiny_detector import draw_tiles

from search.cli.main import _parser
from search.request.reading import load_config

ALL = [block for page in PAGES for block in blocks(page)]
OUTPUTS = ("┃ trial ┃", "┃             ┃ verdict", "runs/<study>/study.yaml")  # how what is shown begins
# Not typed here, see above.
ELSEWHERE = ("pip install", "pytest", "mkdocs serve", "ray up", "rarecall launch")


def of(language: str) -> list[Any]:
    """Those blocks, as parameters of a test."""
    return [
        pytest.param(block, id=f"{block.page}: {block.text.strip().splitlines()[0][:50]}")
        for block in ALL
        if block.language == language
    ]


# Without training


def test_there_is_no_block_of_which_these_tests_know_nothing() -> None:
    assert {block.language for block in ALL} == {"sh", "text", "python", "yaml", ""}
    for block in ALL:
        assert block.language or block.text.lstrip().startswith(OUTPUTS), f"{block.page}:\n{block.text}"
    assert len([block for block in ALL if block.page == "README.md"]) >= 10


IN_A_BUNDLE = (["python", "predict.py"], ["python", "train.py"])


@pytest.mark.parametrize("block", [*of("sh"), *of("text")])
def test_commands_have_arguments_that_exist(block: Block) -> None:
    for command in block.commands():
        typed = words(command)
        if typed[0] == "rarecall":
            # Within a sentence a command may be named alone, or with nothing but what the sentence is about.
            bare = [typed[1], "--help"] if len(typed) == 2 else [typed[1], "STUDY", *typed[2:]]
            ways = [typed[1:], *([bare] if block.language == "text" else [])]
            assert any(map(parsed, ways)), command
        elif typed[:2] == ["pip", "install"]:
            check_installed(typed[2:])
        elif typed[:2] == ["ray", "up"]:
            assert (ROOT / typed[2]).is_file()
            ray_cli.commands["up"].make_context("ray up", typed[2:])
        else:
            told = (["pytest"], ["mkdocs", "serve"])
            assert typed in told or typed[:2] in IN_A_BUNDLE, command


def parsed(typed: list[str]) -> bool:
    """Whether rarecall's own parser takes the arguments."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            _parser().parse_args(typed)
        except SystemExit as left:
            return left.code == 0  # of --help
    return True


def check_installed(typed: list[str]) -> None:
    """What pip is given is here: the lock and each extra; other packages, e.g. a driver, pass."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for before, word in zip(["", *typed], typed, strict=False):
        if before == "-c":
            assert (ROOT / word).is_file()
        elif word.startswith(".["):
            assert set(word[2:-1].split(",")) <= set(known), word


@pytest.mark.parametrize("block", of("yaml"))
def test_study_files_load(block: Block, tmp_path: Path) -> None:
    mine = next(one for one in blocks("README.md") if one.language == "yaml")
    written = yaml.safe_load(block.text)
    request = written if "name" in written else yaml.safe_load(mine.text) | written
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(request))
    config = load_config(tmp_path / "study.yaml")
    assert set(written) <= set(config.model_dump())


@pytest.mark.parametrize("block", [one for one in of("") if "┃ trial ┃" in one.values[0].text])
def test_the_table_of_a_search_has_the_columns_that_are_shown(block: Block) -> None:
    heads = [head.strip() for head in block.text.splitlines()[0].split("┃")[1:-1]]
    shown = load_config(EXAMPLES / "digits.yaml").front_metrics
    assert heads == ["trial", *shown, "exposure"]


# As a reader types it


CONFIRM = {"finalists": 1, "strategies": [], "seeds": 2, "baseline_seeds": 2, "more_seeds": 0}
COMPARE = {"strategies": ["weighted"], "seeds": 2, "reference_seeds": 2}
LESS = {"baseline": {"seeds": 1}, "confirm": CONFIRM, "compare": COMPARE}
DIGITS = LESS | {"search": {"trials": 4, "seed": 0}}
DETECTOR = LESS | {
    "search": {"trials": 2, "sampler": "random"},
    "train": {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 8, "steps": 120, "eval_every": 60, "lr": 0.01},
    "guards": [],
}


def ask_for_less(file: Path, changes: dict[str, Any]) -> None:
    """The study file asks for as little as shows whether its commands work."""
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader stands: beside the examples, with data of one's own and images to look at."""
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{RARECALL.parent}:{os.environ['PATH']}")
    root = tmp_path / "here"
    draw_tiles(root, {"train": 66, "val": 33, "test": 33}, rare_every=11)
    shutil.copytree(EXAMPLES, root / "examples")
    ask_for_less(root / "examples" / "digits.yaml", DIGITS)
    ask_for_less(root / "examples" / "cytology.yaml", DETECTOR | {"data": str(root / "data.yaml")})
    monkeypatch.chdir(root)
    return root


def typed(command: str, at: Path, codes: tuple[int, ...] = (0,)) -> str:
    """What a shell says of a command, as it is written."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=at, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode in codes, (
        f"{command}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def looked_at(command: str, at: Path) -> None:
    """A dashboard shows its page, until it is stopped."""
    server = start(*words(command)[1:], at=at)
    try:
        server.wait_for("http://", 60)
        address = next(word for word in server.text.split() if word.startswith("http://"))
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"<html" in page.read()
        server.send(signal.SIGINT)
        assert server.ended(30) == 0
    finally:
        end(server)


# What may say that nothing is good enough, as so little was trained.
MAY_FIND_NOTHING = ("rarecall confirm", "rarecall fuse")


def type_all(page: str, at: Path, ready: Callable[[str], str] = lambda command: command) -> list[str]:
    """Type a page's commands one after the other; returns those that were.

    Args:
        page: That they stand on.
        at: Where they are typed.
        ready: Called with each command before it is typed; what is typed in its place, or nothing.
    """
    done = []
    for block in blocks(page):
        for command in block.commands() if block.language in ("sh", "text") else ():
            # In a sentence many are named without their arguments.
            named = block.language == "text" and not parsed(words(command)[1:])
            no = named or command.startswith(ELSEWHERE) or "--address auto" in command
            asked = "" if no else ready(command)
            if asked.startswith("rarecall dashboard"):
                looked_at(asked, at)
            elif asked:
                typed(asked, at, (0, 1) if asked.startswith(MAY_FIND_NOTHING) else (0,))
            done += [asked] if asked else []
    return done


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_readme_is_true(here: Path) -> None:
    mine = next(one for one in blocks("README.md") if one.language == "yaml")
    (here / "study.yaml").write_text(mine.text)

    def ready(command: str) -> str:
        if command == "rarecall search study.yaml":
            ask_for_less(here / "study.yaml", DETECTOR)  # `check` has seen it as it is written
        return command

    done = type_all("README.md", here, ready)
    assert {one.split()[1] for one in done} == {
        *("search", "confirm", "report", "dashboard", "export"),
        *("check", "predict", "fuse", "compare", "track"),
    }
    assert (here / "runs" / "digits" / "report.html").is_file()
    assert (here / "bundle" / "weights.pt").is_file()
    assert len([*(here / "found" / "pictures").rglob("*.jpg")]) == 132


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_and_the_pages_on_results_and_strategies_are_true(here: Path) -> None:
    def with_images(command: str) -> str:
        return command.replace("IMAGES", "images/val")

    assert "rarecall predict runs/cytology images/val --out found" in type_all(
        "docs/tutorial.md", here, with_images
    )
    study = here / "runs" / "cytology"
    for made in (study / "export", here / "found"):
        shutil.rmtree(made)

    def on_a_bundle(command: str) -> str:
        """A script is typed in its bundle, with images that are there."""
        if words(command)[:2] not in IN_A_BUNDLE:
            return command
        (bundle,) = (study / "export").iterdir()
        if command.startswith("python train.py"):
            return f"cd {bundle} && {command}"
        shutil.rmtree(bundle / "found", ignore_errors=True)
        there = command.replace("IMAGES", f"{here}/images/val").replace("IMAGE…", f"{here}/images/val")
        return f"cd {bundle} && {there}" + ("" if "--out" in there else " --out found")

    type_all("docs/results.md", here, on_a_bundle)
    assert (here / "figures" / "front.svg").is_file()
    (bundle,) = (study / "export").iterdir()
    shutil.copy(here / "images" / "val" / "val_0.png", bundle / "image.png")
    (python,) = (one for one in blocks("docs/results.md") if one.language == "python")
    run_python(python.text, bundle)
    type_all("docs/strategies.md", here)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_on_python_is_true(here: Path) -> None:
    (python,) = (one for one in blocks("docs/python.md") if one.language == "python")
    run_python(python.text, here)


def run_python(text: str, at: Path) -> None:
    """In a process of its own, as a script that a reader has written."""
    (at / "typed.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "typed.py"], cwd=at, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
