"""Searching: a study made or gone on with, its trials run on the cluster."""

from pathlib import Path

from rich.console import Console

from search.pipeline.opening import Opened, Request, continued, going_on, make, opened, read_request
from search.pipeline.tracking import telling
from search.show.screens import search_screen
from search.trackers.told import check_installed
from search.work.protocol import Cluster, ClusterLost
from search.work.search_queue import SearchQueue, Snapshot
from spaces.errors import Interrupted, RarecallError, UsageError
from trainables.contract.trust import also_trusting


def search(path: Path, runs: Path, *, cluster: Cluster, resume: bool, console: Console) -> Opened:
    """Make or continue a study and run it to the end of its budget.

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
        search_screen(request.config, console) as show,
        telling(found, console) as tell,
    ):

        def changed(snapshot: Snapshot) -> None:
            show(snapshot)
            tell(snapshot)

        work = SearchQueue(found.study, found.folder.files, found.data, changed, cluster.clock)
        if not work.complete():
            _run(work, found, cluster)
    work.check_baseline()
    if not work.complete():
        raise Interrupted("interrupted", _go_on(request))
    return found


def _make(request: Request) -> None:
    if request.folder.study_yaml.exists():
        raise UsageError(
            f"{request.where} already holds a study",
            f"go on with it: rarecall search {request.where} --resume; or give yours another name",
        )
    make(request)


def _run(work: SearchQueue, found: Opened, cluster: Cluster) -> None:
    study, began = found.study, False
    try:
        with cluster.connected(found.config.resources) as launch, going_on(_go_on(found)):
            began = True
            launch(work, found.folder.files)
    except ClusterLost:
        raise
    except (RarecallError, KeyboardInterrupt):
        study.flush()
        told = study.trials() or study.baseline() is not None or study.experiments()
        if not began and not told:
            found.folder.discard()  # it could not start, and will be asked for differently
        raise


def _go_on(request: Request) -> str:
    return also_trusting(f"rarecall search {request.where} --resume")
