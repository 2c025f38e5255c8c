"""Predicting: a study's detector on images of any size, as boxes in files and on pictures."""

import csv
import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from search.judging.choosing import choose
from search.record.folder import StudyFolder
from search.record.storage.address import named
from search.show.common import bar
from spaces.errors import RunError, UsageError
from trainables.contract.predictions import WEIGHTS
from trainables.contract.trial import Merging
from trainables.data.boxes.decoding import Unreadable
from trainables.data.boxes.tiling import Floats, Grid, Ints
from trainables.data.boxes.whole import HEADERS
from trainables.data.files import SUFFIXES
from trainables.data.probing import Look, check_unreadable, look_at, watched
from trainables.detector.measuring.predicting import Detector, Found, Use

RESULTS, TABLE, PICTURES, PICTURE = "predictions.json", "predictions.csv", "pictures", ".jpg"
LONGEST_NAME = 255  # bytes of a file's name


@dataclass(frozen=True)
class Asked:
    """What a person asks for; None is as the weights say.

    Attributes:
        weights: A study's folder, an exported one, or a file of weights.
        images: Files, and folders of them.
        out: Folder to write; there is none.
        trial: Of a study; None for the one that `export` would take.
        conf: Boxes score more; in [0, 1).
        size: Of a tile, pixels.
        overlap: Of neighbours, pixels.
        merging: Of what is found on tiles.
    """

    weights: Path
    images: tuple[Path, ...]
    out: Path
    trial: int | None = None
    conf: float | None = None
    size: int | None = None
    overlap: int | None = None
    merging: Merging | None = None


@dataclass(frozen=True)
class Predicted:
    """What was found.

    Attributes:
        images: How many were read.
        boxes: Class -> how many.
        way: How images were cut and merged, in words.
    """

    images: int
    boxes: dict[str, int]
    way: str


# An image's file, the picture's, and (n, 4), (n,) and (n,) of `Found`.
Draw = Callable[[Path, Path, Floats, Ints, Floats], None]


def predict_images(asked: Asked, console: Console, draw: Draw | None) -> Predicted:
    """Find objects, and write `predictions.json` (COCO results), `predictions.csv` and `pictures/`.

    Args:
        asked: By the person.
        console: Where bars and notes are shown.
        draw: Draws boxes on an image; None for no pictures.

    Raises:
        UsageError: There are no such weights or images, they cannot be read, or an argument is impossible.
        RunError: The folder cannot be written.
    """
    weights = weights_of(asked.weights, asked.trial)
    out = asked.out.absolute()  # `.` has a name, too
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out: {asked.out} is there and not empty", "choose a new folder")
    files = image_files(asked.images)
    _check_names(files.values(), pictures=draw is not None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector = Detector(weights, device=device)
    use = _use(detector.use, asked)
    with bar(console, "looking at images") as watch, watched(watch):
        looks = look_at(list(files), HEADERS)
    problems = {name: looks[file].problem for file, name in files.items() if looks[file].problem}
    check_unreadable(problems, len(files))
    readable = {file: name for file, name in files.items() if name not in problems}
    results: list[dict[str, Any]] = []
    with _written(out) as folder, bar(console, "predicting") as watch:
        for done, (file, name) in enumerate(readable.items(), start=1):
            found = _found(detector, file, looks[file], use)
            results += _results(done, name, found, detector.class_names)
            if draw is not None:
                draw(file, folder / PICTURES / f"{name}{PICTURE}", found.box, found.label, found.score)
            watch(done, len(readable))
        _write(folder, results)
    counts = Counter(one["category"] for one in results)
    for name, problem in problems.items():
        console.print(f"note: {name} is left out: {problem}", highlight=False, soft_wrap=True)
    return Predicted(len(readable), {name: counts[name] for name in detector.class_names}, _in_words(use))


def weights_of(place: Path, trial: int | None) -> Path:
    """The file of weights that a person means.

    Args:
        place: A study's folder, an exported one, or the file.
        trial: Of a study.

    Raises:
        UsageError: There is none.
    """
    study = StudyFolder(place)
    if study.study_yaml.is_file():
        opened = study.open()
        if opened.config.task != "detection":
            raise UsageError(
                f"predict: for detection, the study's task is {opened.config.task}",
                "`rarecall export` writes a predict.py beside the weights",
            )
        chosen = choose(opened, trial)
        assert chosen.report is not None, "a chosen trial has finished"
        return study.files.to_use(chosen.report.key, f"trial {chosen.number}") / WEIGHTS
    if trial is not None:
        raise UsageError(f"--trial: {named(place)} is no study")
    file = place / WEIGHTS if place.is_dir() else place
    if not file.is_file():
        raise UsageError(
            f"no weights in {named(place)}",
            "a study's folder, one that `rarecall export` wrote, or a weights.pt",
        )
    return file


def image_files(places: Sequence[Path]) -> dict[Path, str]:
    """The images that are named, or in folders that are, sorted; each with a name of its own.

    Raises:
        UsageError: One does not exist, or there is none.
    """
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            inside = sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
            found |= dict.fromkeys(file.resolve() for file in inside)
        elif place.is_file():
            found[place.resolve()] = None
        else:
            raise UsageError(f"no such image or folder: {place}")
    if not found:
        raise UsageError(
            f"no image in {', '.join(map(str, places))}", f"image files end in {', '.join(sorted(SUFFIXES))}"
        )
    root = os.path.commonpath([file.parent for file in found])
    return {file: file.relative_to(root).as_posix() for file in found}


def _check_names(names: Iterable[str], *, pictures: bool) -> None:
    """Refuse, before anything is predicted, images whose names can be written nowhere.

    Raises:
        UsageError: A name is not UTF-8, or a picture's would be too long for a file.
    """
    for name in names:
        try:
            length = len(f"{name}{PICTURE}".rpartition("/")[2].encode())
        except UnicodeEncodeError:
            raise UsageError(f"an image's name is not UTF-8: {os.fsencode(name)!r}", "rename it") from None
        if pictures and length > LONGEST_NAME:
            raise UsageError(
                f"the picture of {name} would have too long a name", "--no-pictures, or rename it"
            )


def _use(own: Use, asked: Asked) -> Use:
    """How it is used: as its weights say, but for what is asked."""
    conf = own.conf if asked.conf is None else asked.conf
    if not 0 <= conf < 1:
        raise UsageError(f"--conf: from 0 to less than 1, got {conf:g}")
    size = own.grid.size if asked.size is None and own.grid is not None else asked.size
    overlap = own.grid.overlap if asked.overlap is None and own.grid is not None else asked.overlap or 0
    if size is None and asked.overlap is not None:
        raise UsageError("--overlap: of tiles, and these weights were trained on none", "add --size")
    if size is not None and not (size >= 1 and 0 <= overlap < size):
        raise UsageError(f"--overlap: from 0 to less than --size, {size} pixels, got {overlap}")
    return replace(
        own,
        conf=conf,
        grid=None if size is None else Grid(size, overlap),
        merging=own.merging if asked.merging is None else asked.merging,
    )


def _in_words(use: Use) -> str:
    if use.grid is None:
        return "each as a whole"
    return f"in tiles of {use.grid.size} pixels that share {use.grid.overlap}, merged by {use.merging}"


def _found(detector: Detector, file: Path, look: Look, use: Use) -> Found:
    try:
        return detector.find(file, (look.height, look.width), use)
    except Unreadable as error:
        raise UsageError(f"{file}: {error}") from error


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` once it is complete."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")  # another one may write there, too
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.is_dir():
            out.rmdir()  # it is empty
        os.replace(partial, out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError(f"--out: {out} is there and not empty", "choose a new folder") from error
        raise RunError(f"{out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _results(image: int, name: str, found: Found, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """COCO results of an image; classes, like images, are numbered from 1, and both are named beside."""
    columns = (found.label.tolist(), found.score.tolist(), found.box.round(3).tolist())
    return [
        {
            "image_id": image,
            "category_id": label + 1,
            "bbox": [left, top, round(right - left, 3), round(bottom - top, 3)],
            "score": round(score, 6),
            "file_name": name,
            "category": class_names[label],
        }
        for label, score, (left, top, right, bottom) in zip(*columns, strict=True)
    ]


def _write(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    (folder / RESULTS).write_text(json.dumps(results) + "\n")
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "class", "score", "x", "y", "width", "height"))
        table.writerows((one["file_name"], one["category"], one["score"], *one["bbox"]) for one in results)
