"""Classification data in folders: one folder per class, within `train`, `val`, `test` or all in one piece.

`<root>/train/<class>/**/*.jpg`, the same for `val` and, where there is one, `test`; or, if the root has no
folder `train`, `<root>/<class>/**/*.jpg`. Hidden files and folders are left out. A file `groups.csv` in the
root, with the columns `image` (a path relative to the root) and `group`, says which images belong together.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from spaces.errors import UsageError
from trainables.data.files import ALL, SPLITS, SUFFIXES
from trainables.data.images.csv_list import read_rows
from trainables.data.images.listed import ImageFile
from trainables.data.probing import unread

GROUPS = "groups.csv"
# What people call splits; classes of such a name are far more often splits that we would not have seen.
LIKE_SPLITS = frozenset({*SPLITS, "training", "valid", "validation", "testing"})
HINT = "folders train, val and, if you have one, test; for a class of such a name use a CSV"


def read_image_folder(root: Path) -> list[ImageFile]:
    """The images below a folder.

    Raises:
        UsageError: There is no class folder, one of train is empty, `val` is missing, or `groups.csv` is
            wrong or lacks an image.
    """
    if (root / "train").is_dir():
        if not (root / "val").is_dir():
            raise UsageError(f"data: {root} has a folder train, but no folder val", HINT)
        splits = {split: root / split for split in SPLITS if (root / split).is_dir()}
    else:
        alike = sorted(entry.name for entry in root.iterdir() if entry.name.lower() in LIKE_SPLITS)
        if alike:
            raise UsageError(f"data: {root} has no folder train, but {', '.join(alike)}", HINT)
        splits = {ALL: root}
    images = [image for split, folder in splits.items() for image in _images(root, folder, split)]
    return _grouped(root / GROUPS, images)


def other_pictures(root: Path) -> Counter[str]:
    """What is said of the pictures below a folder that are not read, with their number."""
    return unread(file for file in root.rglob("*") if not _hidden(file, root))


def _images(root: Path, folder: Path, split: str) -> list[ImageFile]:
    """The images of one split."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not classes:
        raise UsageError(f"data: {folder} holds no folder", "one folder per class, with its images")
    found = []
    for class_folder in classes:
        files = [
            file
            for file in class_folder.rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.is_dir() and not _hidden(file, class_folder)
        ]
        if not files and split in ("train", ALL):
            raise UsageError(
                f"data: class folder {class_folder} holds no image",
                f"image files end in {', '.join(sorted(SUFFIXES))}",
            )
        for file in files:
            if not file.exists():
                raise UsageError(f"data: {file} is a link to a file that is not there")
            if not file.is_file():  # a pipe would be waited for
                raise UsageError(f"data: {file} is not a file")
            name = file.relative_to(root).as_posix()
            found.append(ImageFile(file, name, split, class_folder.name, name))
    return found


def _hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def _grouped(groups_file: Path, images: list[ImageFile]) -> list[ImageFile]:
    """The images with the groups that a file says, if it is there."""
    if not groups_file.is_file():
        return images
    groups: dict[str, str] = {}
    for number, row in read_rows(groups_file, ("image", "group")):
        if groups.setdefault(row["image"], row["group"]) != row["group"]:
            raise UsageError(f"{groups_file}, line {number}: {row['image']} already has another group")
    unlisted = [image.name for image in images if not groups.get(image.name)]
    if unlisted:
        raise UsageError(
            f"{groups_file}: {len(unlisted)} of {len(images)} images have no group, e.g. {unlisted[0]}",
            "`image` is a path relative to the file; list every image",
        )
    return [replace(image, source=groups[image.name]) for image in images]
