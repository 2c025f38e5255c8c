"""The wiring of a search: data checked, study made or opened, work run on the cluster."""

import os
from pathlib import Path

from rich.console import Console

from search.cluster.launch import run_work
from search.config import StudyConfig, load_config
from search.data_check import check_data
from search.folder import StudyFolder
from search.progress import screen
from search.study import Study
from search.worklist import SearchWork
from spaces.errors import RarecallError, UsageError
from trainables.dataset import DataSummary
from trainables.models import check_model
from trainables.sources import describe
from trainables.trial import DataSpec


class Interrupted(RarecallError):
    """The person stopped the search; the study can go on later."""


def data_of(config: StudyConfig, source: str) -> tuple[DataSpec, DataSummary]:
    """Check a study against its data and its model; `source` names the study file in errors.

    Raises:
        UsageError: With every problem found.
    """
    try:
        check_model(config.train.model, config.task)
        summary = describe(config.data, config.task)
        return check_data(config, summary), summary
    except UsageError as error:
        lines = error.message.splitlines()
        named = [line if line.startswith("hint:") else f"{source}: {line}" for line in lines]
        raise UsageError("\n".join(named), error.hint) from None


def search(request: Path, runs: Path, *, address: str | None, resume: bool, console: Console) -> StudyFolder:
    """Make or continue a study and run it to the end of its budget.

    Args:
        request: A study file, or with `resume` also a study's folder.
        runs: Folder of all studies.
        address: A running Ray cluster, or None for a local one.
        resume: Go on with an existing study.
        console: For the live screen.

    Raises:
        UsageError: The study file, the data or the folders are not as they must be.
        RunError: The cluster is out of reach, or the baseline could not be trained.
        Interrupted: By Ctrl-C; nothing told so far is lost.
    """
    is_folder = request.is_dir() or (resume and not request.suffix)
    config = StudyFolder(request).config() if is_folder else load_config(request)
    folder = StudyFolder(request if is_folder else runs / config.name)
    data, summary = data_of(config, request.name)
    if resume:
        _check_resumable(folder, config, request)
    else:
        _make(folder, config, summary.fingerprint)
    with folder.claimed(), screen(config, console) as show:
        study = folder.open()
        work = SearchWork(study, folder, data, show)
        if not work.complete():
            _run(work, study, folder, address=address)
    work.check_baseline()
    if not work.complete():
        raise Interrupted("interrupted", f"rarecall search {_shown(folder.path)} --resume")
    return folder


def _run(work: SearchWork, study: Study, folder: StudyFolder, *, address: str | None) -> None:
    try:
        run_work(work, folder.path, study.config.resources, address=address)
    except RarecallError:
        study.flush()
        if not study.trials() and study.baseline() is None:
            folder.discard()  # it could not start, and will be asked for differently
        raise
    finally:
        study.flush()


def _make(folder: StudyFolder, config: StudyConfig, fingerprint: str) -> None:
    if folder.study_yaml.exists():
        raise UsageError(
            f"{_shown(folder.path)} already holds a study",
            f"go on with it: rarecall search {_shown(folder.path)} --resume; or give yours another name",
        )
    folder.create(config, fingerprint).flush()


def _check_resumable(folder: StudyFolder, config: StudyConfig, request: Path) -> None:
    """Only a larger `search.trials` may differ from what the study was made with; it is taken over."""
    stored = folder.config()
    search = stored.search.model_copy(update={"trials": config.search.trials})
    widened = stored.model_copy(update={"search": search})
    if widened != config:
        changed = [key for key, value in config if value != getattr(widened, key)]
        raise UsageError(
            f"{request}: differs from the study in {_shown(folder.path)} in: {', '.join(changed)}",
            "give the new request another name; only search.trials may be raised on the way",
        )
    if config.search.trials > stored.search.trials:
        folder.write_request(config)


def _shown(path: Path) -> str:
    """The path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
