"""Searching: a study made or gone on with, its trials run on the cluster."""

from pathlib import Path

from rich.console import Console

from search.export.trackers.told import check_installed
from search.judging.choosing import without_use
from search.pipeline.allotting import asked_of
from search.pipeline.opening import (
    Opened,
    Request,
    continued,
    make,
    make_ready,
    opened,
    read_request,
    shown,
)
from search.pipeline.tracking import telling
from search.request.computing.budget import ended_line
from search.show.screens import search_screen
from search.work.protocol import Cluster, ClusterLost
from search.work.search_queue import SearchQueue, Snapshot
from spaces.errors import Interrupted, RarecallError, UsageError


def search(path: Path, runs: Path, *, cluster: Cluster, resume: bool, console: Console) -> Opened:
    """Make or continue a study and run it to the end of its budget.

    Then the weights go of all trials that nothing asks for, unless the study keeps them.

    Args:
        path: A study file, or with `resume` also a study's folder.
        runs: Folder of all studies.
        cluster: Where it runs.
        resume: Go on with an existing study.
        console: For the live screen.

    Returns:
        The study, all of it told.

    Raises:
        UsageError: The study file, the data or the folders are not as they must be.
        RunError: The cluster is out of reach or gone, or the baseline could not be trained.
        Interrupted: By Ctrl-C; nothing told so far is lost.
    """
    request = read_request(path, runs, console)
    check_installed(request.config.tracking)
    if resume:
        request = continued(request, path)
    else:
        _make(request)
    with (
        opened(request, "searched") as found,
        search_screen(request.config, console, is_here=cluster.is_here) as show,
        telling(found, console) as tell,
    ):

        def changed(snapshot: Snapshot) -> None:
            show(snapshot)
            tell(snapshot)

        work = SearchQueue(found.study, found.folder.files, found.data, changed, cluster.clock)
        if not work.complete():
            _run(work, found, cluster, console)
        said = _remove_weights(found) if work.complete() and found.config.keep == "front" else None
    work.check_baseline()
    if not work.complete():
        raise Interrupted("interrupted", found.go_on)
    for line in (said, _ended_by_its_budget(work, found)):
        if line is not None:
            console.print(line, highlight=False, soft_wrap=True)
    return found


def _ended_by_its_budget(work: SearchQueue, found: Opened) -> str | None:
    if work.ended_by is None:
        return None
    raised = f"raise `budget` in {shown(found.folder.study_yaml)}"
    return f"{ended_line(work.ended_by)}\nto go on, {raised}, then: {found.go_on}"


def _make(request: Request) -> None:
    if request.folder.study_yaml.exists():
        raise UsageError(
            f"{request.where} already holds a study",
            f"go on with it: rarecall search {request.where} --resume; or give yours another name",
        )
    make(request)


def _run(work: SearchQueue, found: Opened, cluster: Cluster, console: Console) -> None:
    study, began = found.study, False
    try:
        make_ready(found, cluster, ("train", "val"), console)
        with cluster.connected(asked_of(found, console), found.reads) as launch:
            began = True
            with work.meter.counting():
                launch(work, found.folder.files)
    except ClusterLost:
        raise
    except (RarecallError, KeyboardInterrupt) as error:
        study.flush()
        told = study.trials() or study.baseline() is not None or study.experiments()
        if (not began or isinstance(error, UsageError)) and not told:
            found.folder.discard()  # it could not start, and will be asked for differently
        raise


def _remove_weights(found: Opened) -> str | None:
    """Remove the weights that nothing asks for; what to say of it, or None if there were none."""
    freed = [found.folder.files.remove_weights(key) for key in without_use(found.study)]
    if not any(freed):
        return None
    count = sum(size > 0 for size in freed)
    return (
        f"note: removed the weights of {count} trial{'s' * (count > 1)}, neither on the front nor named, "
        f"{sum(freed) / 2**20:.1f} MiB; `keep: all` in the study file keeps them"
    )
