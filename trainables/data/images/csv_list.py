"""Classification data listed in a CSV: columns `path` and `label`, and if wanted `split` and `group`.

Paths are relative to the CSV. Without a column `split` the set is in one piece. An empty `group` leaves the
image a group of its own. Other columns are not read.
"""

import csv
from collections import Counter
from pathlib import Path

from spaces.errors import UsageError
from trainables.data.files import ALL, SPLITS, path_in
from trainables.data.images.listed import ImageFile

Row = dict[str, str]


def read_image_csv(file: Path) -> list[ImageFile]:
    """The images that a CSV lists.

    Raises:
        UsageError: A column, a label or a file is missing, a split has another name, an image is there twice.
    """
    rows = read_rows(file, ("path", "label"))
    images = [_image(file, row, number) for number, row in rows]
    missing = [image.path for image in images if not image.path.is_file()]
    if missing:
        raise UsageError(
            f"{file}: {len(missing)} of {len(images)} images do not exist, e.g. {missing[0]}",
            "paths are relative to the CSV",
        )
    name, count = Counter(image.name for image in images).most_common(1)[0]
    if count > 1:
        raise UsageError(
            f"{file}: image {name} is listed {count} times", "an image has one label and one split"
        )
    return images


def read_rows(file: Path, columns: tuple[str, ...]) -> list[tuple[int, Row]]:
    """The rows of a CSV with their line numbers, values without the spaces around them.

    Raises:
        UsageError: It cannot be read, lacks one of `columns`, is empty, or a row has another length.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stored:
            reader = csv.DictReader(stored, strict=True)
            lacking = [column for column in columns if column not in (reader.fieldnames or ())]
            if lacking:
                raise UsageError(
                    f"{file}: no column {' and no column '.join(lacking)}; got {reader.fieldnames}",
                    "columns are separated by commas and named in the first line",
                )
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: no CSV in UTF-8: {error}") from error
    if not rows:
        raise UsageError(f"{file}: no row below the header")
    for number, row in rows:
        if None in row or None in row.values():
            raise UsageError(f"{file}, line {number}: other columns than the header")
    return [(number, {key: value.strip() for key, value in row.items()}) for number, row in rows]


def _image(file: Path, row: Row, number: int) -> ImageFile:
    where = f"{file}, line {number}"
    for column in ("path", "label"):
        if not row[column]:
            raise UsageError(f"{where}: {column} is empty")
    split = row.get("split", ALL)
    if split not in SPLITS and "split" in row:
        raise UsageError(f"{where}: no such split '{split}'", f"splits: {', '.join(SPLITS)}")
    path = path_in(file.parent, row["path"], where).resolve()
    name = path.as_posix().removeprefix(f"{file.parent.resolve().as_posix()}/")
    return ImageFile(path, name, split, row["label"], row.get("group") or name)
