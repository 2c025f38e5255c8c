"""Searching: a study made or gone on with, its trials run on the cluster."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search.pipeline.opening import data_of, requested, shown, take_over, tell_notes
from search.record.folder import StudyFolder
from search.record.study import Study
from search.request.config import StudyConfig
from search.show.screens import search_screen
from search.work.protocol import Cluster
from search.work.search_queue import SearchWork
from spaces.errors import Interrupted, RarecallError, UsageError


def search(request: Path, runs: Path, *, cluster: Cluster, resume: bool, console: Console) -> StudyFolder:
    """Make or continue a study and run it to the end of its budget.

    Args:
        request: A study file, or with `resume` also a study's folder.
        runs: Folder of all studies.
        cluster: Where it runs.
        resume: Go on with an existing study.
        console: For the live screen.

    Raises:
        UsageError: The study file, the data or the folders are not as they must be.
        RunError: The cluster is out of reach, or the baseline could not be trained.
        Interrupted: By Ctrl-C; nothing told so far is lost.
    """
    config, folder = requested(request, runs)
    data, summary = data_of(config, request.name)
    tell_notes(summary, console)
    if resume:
        take_over(folder, config, summary, request)
    else:
        _make(folder, config, summary.fingerprint, data.minority)
    with folder.claimed(), search_screen(config, console) as show:
        study = folder.open()
        work = SearchWork(study, folder, data, show)
        if not work.complete():
            _run(work, study, folder, cluster)
    work.check_baseline()
    if not work.complete():
        raise Interrupted("interrupted", f"rarecall search {shown(folder.path)} --resume")
    return folder


def _run(work: SearchWork, study: Study, folder: StudyFolder, cluster: Cluster) -> None:
    try:
        with cluster.connected(study.config.resources) as launch:
            launch(work, folder.path)
    except RarecallError:
        study.flush()
        if not study.trials() and study.baseline() is None and not study.experiments():
            folder.discard()  # it could not start, and will be asked for differently
        raise
    finally:
        study.flush()


def _make(folder: StudyFolder, config: StudyConfig, fingerprint: str, minority: Sequence[str]) -> None:
    if folder.study_yaml.exists():
        raise UsageError(
            f"{shown(folder.path)} already holds a study",
            f"go on with it: rarecall search {shown(folder.path)} --resume; or give yours another name",
        )
    folder.create(config, fingerprint, minority).flush()
