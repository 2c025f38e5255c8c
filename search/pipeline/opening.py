"""From what a person names, a study file or a study's folder, to one open study that fits its data.

Every use case takes this way, so that a file is read once and a study is opened once per command.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from search.pipeline.images.study_tiles import describe_tiles
from search.record.folder import StudyFolder
from search.record.storage.address import mirrored, named
from search.record.study import Study
from search.request.arms import named_strategy, needs_whole_images
from search.request.computing.resources import AUTO
from search.request.config import FREE, FREE_SEARCH, LEAST_EPOCHS_OF_TWO, StudyConfig
from search.request.data_check import check_data, why_no_copies
from search.request.reading import load_config, not_runnable
from search.show.common import bar
from search.work.protocol import Cluster, ClusterLost
from spaces.errors import UsageError
from spaces.strategy import NAMED, Strategy
from trainables.contract.tasks import TASKS
from trainables.contract.trial import DataSpec, WholeImages
from trainables.contract.trust import also_trusting
from trainables.data.probing import watched
from trainables.data.sources import bring, describe
from trainables.data.summary import DataSummary
from trainables.storage.reading import StorageAway
from trainables.worker.by_task import BY_TASK

_COMMANDS = {"searched": "search", "confirmed": "confirm", "compared": "compare"}


@dataclass(frozen=True)
class Request:
    """What a person asks for, checked against its data; the study may not exist yet.

    Attributes:
        config: What is asked.
        folder: Of the study.
        data: As a run sees it, with `minority: auto` resolved.
        summary: What the data hold.
    """

    config: StudyConfig
    folder: StudyFolder
    data: DataSpec
    summary: DataSummary

    @property
    def where(self) -> str:
        """The study's folder as a person would type it here."""
        return shown(self.folder.path)

    def strategy(self, name: str) -> Strategy:
        """What an arm's name stands for on these data.

        Raises:
            UsageError: There is no such arm, or these data do not allow it.
        """
        two = NAMED[name].division.dual_share if name in NAMED else 0
        if two and self.config.train.epochs < LEAST_EPOCHS_OF_TWO:
            raise UsageError(f"{name}: two models need at least {LEAST_EPOCHS_OF_TWO} epochs")
        if needs_whole_images(name) and (why := why_no_copies(self.summary, self.data.minority)):
            raise UsageError(f"{name}: {why}")
        minority = frozenset(self.summary.class_names.index(one) for one in self.data.minority)
        return named_strategy(
            name,
            self.summary.splits["train"].classes_per_image,
            minority,
            lambda strategy: BY_TASK[self.config.task].copied(self.data, strategy.augmentation),
        )

    @property
    def reads(self) -> list[str]:
        """Paths that every node of a cluster has to see."""
        return list(dict.fromkeys(paths_of(self.config).values()))


@dataclass(frozen=True)
class Opened(Request):
    """A study that is open for this process alone to write, and fits its data.

    Attributes:
        study: Its record.
        go_on: The command that goes on with what it was opened for.
    """

    study: Study
    go_on: str


def read_request(path: Path, runs: Path, console: Console) -> Request:
    """The study that a person means by a study file or a study's folder, whether it exists or not.

    Args:
        path: Of the file or the folder.
        runs: Folder of all studies.
        console: For what a person should know of the data before anything is trained.

    Raises:
        UsageError: The file is missing or has errors, the folder holds no study, or the data does not fit.
    """
    if path.is_dir() or not path.suffix:
        folder = StudyFolder(path)
        config = folder.config
    else:
        config = load_config(path)
        folder = StudyFolder(runs / config.name)
        folder.bring()
    return _checked(config, folder, path.name, console)


def read_study(folder: StudyFolder, console: Console) -> Request:
    """The study in a folder, on the data that it was made with.

    Raises:
        UsageError: There is none, or the data does not fit or has changed.
    """
    request = _checked(folder.config, folder, folder.study_yaml.name, console)
    check_same_data(request, request.config)
    check_same_evaluator(request)
    return request


def _checked(config: StudyConfig, folder: StudyFolder, source: str, console: Console) -> Request:
    data, summary = data_of(config, source, console)
    for note in summary.notes():
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    return Request(config, folder, data, summary)


def data_of(config: StudyConfig, source: str, console: Console | None = None) -> tuple[DataSpec, DataSummary]:
    """Check a study against its data and its model.

    Args:
        config: Of the study.
        source: Names the study file in errors.
        console: Where a bar is shown, if it is a terminal, while many images are looked at; or None.

    Raises:
        UsageError: With every problem found.
    """
    task = BY_TASK[config.task]
    try:
        if problems := not_runnable(config):  # of a study that an earlier version made
            raise UsageError("\n".join(problems))
        task.check_model(config.train.model)
        summary = described(config, console)
        data = check_data(config, summary)
        on_gpu = config.resources != AUTO and config.resources.gpu > 0  # `auto` may end on a CPU
        task.check_network(config.train, len(summary.class_names), on_gpu)
        return data, summary
    except UsageError as error:
        lines = error.message.splitlines()
        named = [line if line.startswith("hint:") else f"{source}: {line}" for line in lines]
        raise UsageError("\n".join(named), error.hint) from None


def described(config: StudyConfig, console: Console | None) -> DataSummary:
    """What the data of a study hold.

    Raises:
        UsageError: They cannot be read, or do not fit the task.
        RunError: They lie on a storage that stayed away, or cannot be written to this node's cache.
    """
    with bar(console, "fetching data") as watch, watched(watch):
        bring(config.data, config.task)
    if isinstance(config.data, WholeImages):
        return describe_tiles(config, console)
    with bar(console, "looking at images") as watch, watched(watch):
        return describe(config.data, config.task, config.pixel_max)


def make(request: Request) -> None:
    """Make the study.

    Raises:
        UsageError: It exists, or its folder cannot be written.
    """
    summary = request.summary
    drawn = summary.listing if summary.one_piece or summary.test_from_val else {}
    request.folder.create(request.config, summary.fingerprint, request.data.minority, drawn).flush()


def continued(request: Request, typed: Path) -> Request:
    """The request as an existing study goes on with it, if only what may differ does.

    That is a larger `search.trials`, and what else is in `FREE_SEARCH` and `FREE`: it says nothing of the
    trials.

    Args:
        request: What is asked.
        typed: The path that the person gave, for messages.

    Raises:
        UsageError: There is no study, its data has changed, or something else differs.
    """
    found, stored = request.folder.config, request.folder.config.kept()
    check_same_data(request, stored)
    check_same_evaluator(request)
    config = request.config.kept()
    search = stored.search.model_copy(update={name: getattr(config.search, name) for name in FREE_SEARCH})
    free = {name: getattr(config, name) for name in FREE if name != "study_db"}
    allowed = stored.model_copy(update={"search": search} | free)
    if allowed != config:
        changed = [key for key, value in config if value != getattr(allowed, key)]
        raise UsageError(
            f"{typed}: differs from the study in {request.where} in: {', '.join(changed)}",
            "give the new request another name; only search.trials, search.trial_timeout_s, "
            "search.checkpoint_s, budget, resources, compare, confirm, keep, launch and tracking may change",
        )
    trials = max(config.search.trials, stored.search.trials)
    widened = config.model_copy(update={"search": search.model_copy(update={"trials": trials})})
    if widened != found:  # an earlier version also kept a password
        request.folder.write_request(widened)
    widened = widened.model_copy(update={"study_db": request.config.study_db})
    request.folder.config = widened  # that of the study file has the password
    return replace(request, config=widened)


def check_same_data(request: Request, stored: StudyConfig) -> None:
    """A study's runs compare only on the data that it was made with.

    Raises:
        UsageError: The data has changed.
    """
    same_place = stored.data == request.config.data
    if same_place and not request.summary.is_that(request.folder.provenance.data_fingerprint):
        data = request.config.data
        place = data.images if isinstance(data, WholeImages) else data
        raise UsageError(
            f"data: {place} has changed since {request.where} was made: its fingerprint differs",
            "give the new data a study of its own",
        )


def check_same_evaluator(request: Request) -> None:
    """Metrics that were measured in two ways do not mix.

    Raises:
        UsageError: The study was measured by another version.
    """
    before, now = request.folder.provenance.evaluator, TASKS[request.config.task].evaluator
    if before != now:
        raise UsageError(
            f"{request.where} was measured by version {before} of the evaluator, this rarecall has {now}",
            "it can be shown and exported; give a study of its own what is to be measured anew",
        )


@contextmanager
def _going_on(command: str) -> Iterator[None]:
    """If the cluster or the storage is lost in the context, the error says with which command it goes on."""
    try:
        yield
    except StorageAway as away:
        hint = f"nothing finished is lost. Once it can be reached, go on with: {command}"
        raise StorageAway(away.message, hint) from away
    except ClusterLost as lost:
        raise ClusterLost(lost.message, f"nothing finished is lost. Go on with: {command}") from lost


@contextmanager
def opened(request: Request, being: str) -> Iterator[Opened]:
    """The study, for this process alone; all that is told in the context is in the database after it.

    Args:
        request: Of a study that exists.
        being: What others will read of it: it is being `searched`, `confirmed` or `compared`.

    Raises:
        UsageError: Another process has it.
        RunError: What was told could not be written.
    """
    go_on = also_trusting(f"rarecall {_COMMANDS[being]} {request.where} --resume")
    with _going_on(go_on), request.folder.claimed(being):
        study = request.folder.open("write")
        try:
            yield Opened(**vars(request), study=study, go_on=go_on)
        finally:
            study.flush()


def make_ready(found: Opened, cluster: Cluster, splits: Sequence[str], console: Console) -> None:
    """Decode the images that runs will need, if they all run on this machine; other nodes do it themselves.

    Args:
        found: The study.
        cluster: Where it runs.
        splits: Whose images.
        console: For a bar, and for what has no room.

    Raises:
        UsageError: An image cannot be decoded any more.
        RunError: The cache folder cannot be written.
    """
    if not cluster.is_here:
        return
    with bar(console, "decoding images") as watch, watched(watch):
        notes = BY_TASK[found.config.task].make_ready(found.data, found.config.train, splits)
    for note in notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def shown(path: Path) -> str:
    """The path as a person would type it here; of a mirror, the address of what it mirrors."""
    if mirrored(path) is not None:
        return named(path)
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def nothing_to_resume(why: str, begin: str) -> UsageError:
    """What `--resume` is answered with where nothing was begun; `begin` is the command that begins."""
    return UsageError(f"nothing to resume: {why}", f"without --resume it begins: {begin}")


def paths_of(config: StudyConfig) -> dict[str, str]:
    """What a study reads by an absolute path; other names are a demo's, or the trainable's own."""
    data, train = config.data, config.train
    named = {"train.model": train.model, "train.weights": train.weights}
    if isinstance(data, str):
        named["data"] = data
    else:
        named |= {"data.images": data.images, "data.annotations": data.annotations}
        named["data.group_by"] = data.group_by
    return {key: path for key, path in named.items() if path is not None and path.startswith("/")}


def with_paths(config: StudyConfig, paths: Mapping[str, str]) -> StudyConfig:
    """A study that names what it reads otherwise.

    Args:
        config: Of the study.
        paths: By the keys of `paths_of`; others stay as they are.
    """
    changes: dict[str, Any] = {}
    for key, path in paths.items():
        part, _, field = key.partition(".")
        if field:
            now = changes.get(part, getattr(config, part))
            changes[part] = now.model_copy(update={field: path})
        else:
            changes[part] = path
    return config.model_copy(update=changes)
