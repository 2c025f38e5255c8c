"""Small data that go along with a study to where it runs: which files, and under which name.

What is brought lies in a folder that is named after its content, so that the same data are one folder for all
studies, and a study that is launched again names the same path.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from search.pipeline.opening import paths_of, with_paths
from search.request.config import StudyConfig
from spaces.errors import UsageError
from trainables.contract.trial import WholeImages
from trainables.data.boxes.data_set import files_read, load_detection
from trainables.data.boxes.formats.described import description
from trainables.data.boxes.whole import whole_files_read
from trainables.data.cut_once import load_asked
from trainables.data.images.data_set import image_files_read, load_classification

MOST_BYTES = 50 * 2**20
DATA = "data"  # folder of what is brought, in the package and in the folder of studies
KEYS = frozenset({"data", "data.images"})  # whose files name others, which lie beside them


@dataclass(frozen=True)
class Brought:
    """What goes along.

    Attributes:
        files: Place in the package, e.g. `data/1a2b3c4d5e6f7081/set/a.png` -> the file here.
        places: Key of the study file -> place in the package of what it names.
    """

    files: Mapping[str, Path]
    places: Mapping[str, str]

    def named(self, config: StudyConfig, root: Path) -> StudyConfig:
        """The study, naming what is brought by where it lies below `root`."""
        return with_paths(config, {key: str(root / place) for key, place in self.places.items()})


def bring(config: StudyConfig) -> Brought:
    """What a study reads and the cluster does not see; nothing that only lies beside it.

    Args:
        config: Of the study; its paths are absolute. Those below `launch.shared` are seen there, and those
            that do not exist here are taken for paths of the cluster.

    Raises:
        UsageError: It is more than 50 MiB, or no data, or not the same where it lies elsewhere.
    """
    shared = config.launch.shared
    wanted = {
        key: Path(path)
        for key, path in paths_of(config).items()
        if not (shared is not None and PurePosixPath(path).is_relative_to(shared)) and Path(path).exists()
    }
    roots = _roots(wanted)
    read = _read_from(config, wanted)
    listed = {root: _listed(root, read) for root in roots}
    _check_size(listed)
    names = {root: f"{DATA}/{_content(files)}" for root, files in listed.items()}
    places = {}
    for key, path in wanted.items():
        root = next(one for one in roots if path.is_relative_to(one))
        places[key] = f"{names[root]}/{path.relative_to(root.parent).as_posix()}"
    files = {f"{names[root]}/{name}": file for root, of in listed.items() for name, file in of.items()}
    brought = Brought(files, places)
    if not KEYS.isdisjoint(places):
        _check_same(config, brought)
    return brought


def _check_same(config: StudyConfig, brought: Brought) -> None:
    """A data set may name files that lie elsewhere, which would be missing there."""
    with TemporaryDirectory(prefix="rarecall-") as folder:
        for place, file in brought.files.items():
            copy = Path(folder, place)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        try:
            fingerprint, images = _read(brought.named(config, Path(folder)))
        except UsageError as error:
            raise _not_together(error.message.replace(f"{folder}/", "")) from None
        away = [image for image in images if not image.is_relative_to(folder)]
        if away:
            raise _not_together(f"{len(away)} of {len(images)} images lie elsewhere, e.g. {away[0]}")
        if fingerprint != _read(config)[0]:
            raise _not_together("a copy of them is not the same data")


def _not_together(why: str) -> UsageError:
    return UsageError(
        f"the data would not be whole where the job runs: {why}",
        "have all of it in the folder of the data file, named by relative paths, or where all nodes see it "
        "(`launch: {shared: FOLDER}`)",
    )


def _read(config: StudyConfig) -> tuple[str, list[Path]]:
    """A data set's fingerprint, and its images."""
    if isinstance(config.data, WholeImages):
        boxes = load_asked(config.data)
    elif config.task == "detection":
        boxes = load_detection(Path(config.data), config.pixel_max)
    else:
        listed = load_classification(Path(config.data))
        return listed.fingerprint, [image.path for image in listed.files()]
    return boxes.fingerprint, [image.path for images in boxes.splits.values() for image in images]


def _roots(wanted: Mapping[str, Path]) -> list[Path]:
    """Folders and files that hold all of it, none of them in another."""
    whole = [path.parent if key in KEYS and path.is_file() else path for key, path in wanted.items()]
    return [
        one
        for one in dict.fromkeys(whole)
        if not any(one != other and one.is_relative_to(other) for other in whole)
    ]


def _listed(root: Path, read: set[Path]) -> dict[str, Path]:
    """Name, which begins with the root's own -> each file of it that is read; what is hidden stays here."""
    if root.is_file():
        return {root.name: root}
    return {
        f"{root.name}/{file.relative_to(root).as_posix()}": file
        for file in sorted(_below(root))
        if file.resolve() in read
    }


def _read_from(config: StudyConfig, wanted: Mapping[str, Path]) -> set[Path]:
    """All files that are read, of those that are wanted or that they name; without links.

    Raises:
        UsageError: One of the data is not there.
    """
    found = list(wanted.values())
    if isinstance(config.data, WholeImages):
        annotations = config.data.annotations
        if "data.images" in wanted:
            beside = None if annotations is None else Path(annotations)
            found += whole_files_read(wanted["data.images"], beside)
    elif "data" in wanted and config.task == "detection":
        found += files_read(wanted["data"], description(wanted["data"]))
    elif "data" in wanted:
        found += image_files_read(wanted["data"])
    return {file.resolve() for file in found}


def _below(folder: Path) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(path, name) for name in names if not name.startswith("."))


def _check_size(named: Mapping[Path, Mapping[str, Path]]) -> None:
    sizes = {root: sum(file.stat().st_size for file in files.values()) for root, files in named.items()}
    if sum(sizes.values()) > MOST_BYTES:
        listed = ", ".join(f"{root} ({size / 2**20:.0f} MiB)" for root, size in sizes.items())
        raise UsageError(
            f"the cluster does not see {listed}, and more than {MOST_BYTES // 2**20} MiB do not go along "
            "with a job",
            "have the data in a folder of their own, or where all nodes see them: `launch: {shared: FOLDER}`",
        )


def _content(files: Mapping[str, Path]) -> str:
    """A name for what is in files, and for what they are called."""
    digest = hashlib.sha256()
    for name, file in files.items():
        content = file.read_bytes()
        digest.update(repr((name, len(content))).encode() + content)
    return digest.hexdigest()[:16]
