"""Run a queue of work on a Ray cluster: a local one of our own, or a running one by its address."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

# Read by Ray Tune when it is imported or starts. Its loggers would write four files per trial that nobody
# reads; its snapshots of the experiment stall big studies, and a search resumes from the study's own record.
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"
os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Else what Tune still calls in a thread that was left, when its Ray has died, would start another Ray.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

import ray
from ray import tune
from ray.exceptions import AuthenticationError

from search.cluster.callbacks import (
    CountsFromCheckpoint,
    EndsOverdue,
    FreesName,
    KeepNewest,
    SaysNothing,
    Started,
    StopsOnError,
)
from search.cluster.nodes import check_shared, guard_token, open_to_all, other_versions, refused_hint
from search.cluster.room import (
    ask_ahead,
    impossible_here,
    local_resources,
    may_grow_to,
    nodes_to_come,
    room_for,
    runs_at_once,
)
from search.cluster.searcher import WorkScheduler, WorkSearcher
from search.cluster.stopping import Stop
from search.cluster.watch import Watch, attended
from search.record.files import RunFiles
from search.request.computing.resources import Resources
from search.work.allotting import Allotment, Asked
from search.work.protocol import Clock, Launch, Work
from spaces.errors import RunError, UsageError
from trainables.contract.space import is_out_of_space
from trainables.worker.tune_adapter import train_on_ray

MAX_RETRIES = 3  # of a trial whose worker or node is lost, since its last checkpoint; each goes on from it
CONNECT_TIMEOUT_S = 5.0
AWAY_S = 300.0  # longer than a driver's patience with a storage: it ends before a run is given up
OWN_PATIENCE_S = 3.0  # with a part of a local Ray that does not answer: it never comes back
PATIENCE_S = 20.0  # with one of a cluster's; after 60 s without a GCS, Ray ends this process
OBJECT_STORE_BYTES = 200 * 2**20  # of a local one: trials exchange nothing but small results


@dataclass(frozen=True)
class RayCluster:
    """A `protocol.Cluster`: the Ray at an address, e.g. `auto`, or with None a local one while needed.

    Attributes:
        stop: What ends the work on it early, and what is said then.
        say: Is told what a person should know of the nodes before the first run, a sentence at a time.
    """

    address: str | None = None
    clock: Clock = time.monotonic
    stop: Stop = field(default_factory=Stop)
    say: Callable[[str], None] = logging.getLogger(__name__).warning

    @property
    def is_here(self) -> bool:
        """See `protocol.Cluster`; of a cluster that was started elsewhere it is not known."""
        return self.address is None

    @contextmanager
    def connected(self, asked: Asked, reads: Sequence[str] = ()) -> Iterator[Launch]:
        """See `protocol.Cluster`."""
        least = asked if isinstance(asked, Resources) else asked.least
        with connected(self.address, least, stop=self.stop):
            for line in () if self.address is None else (*open_to_all(), *other_versions()):
                self.say(line)
            yield partial(run_connected, asked=asked, stop=self.stop, reads=reads)


@contextmanager
def connected(
    address: str | None,
    resources: Resources | None = None,
    *,
    cpus: int | None = None,
    stop: Stop | None = None,
) -> Iterator[None]:
    """This process as a driver of the cluster at `address`, or of a local Ray that ends with the context.

    Args:
        address: As of `RayCluster`.
        resources: What one run will occupy at the least; if given, a local Ray must be able to hold it.
        cpus: Of a local Ray; None counts the machine's.
        stop: As of `RayCluster`.

    Raises:
        UsageError: This machine can never hold a run.
        RunError: The cluster cannot be reached.
        KeyboardInterrupt: `stop` was asked for while Ray started.
    """
    stop = Stop() if stop is None else stop
    # An elastic cluster may still grow; a local one never does, and Ray would wait for ever.
    lacking = impossible_here(resources, cpus=cpus) if address is None and resources is not None else []
    if lacking:
        raise UsageError("\n".join(lacking), "lower it, or name a cluster with --address")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        if address is not None:
            _check_reachable(address)
        with stop.heard():
            _start(address, cpus)
    except SystemExit:  # what Ray makes of SIGTERM for as long as it starts
        if not stop.asked:
            raise
    except (OSError, ValueError, AuthenticationError) as error:
        said = error.message if isinstance(error, AuthenticationError) else str(error)
        raise RunError(f"no Ray cluster at '{address}': {said}", refused_hint(error)) from None
    try:
        if stop.asked:
            raise KeyboardInterrupt
        yield
    finally:
        with stop.heard():
            ray.shutdown()


def _start(address: str | None, cpus: int | None) -> None:
    own: dict[str, Any] = {
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    asked = {} if address is not None else own
    # Despite `log_to_driver=False` Ray would print to stdout, amid our JSON, that a cluster's node has died.
    ray._private.worker._worker_logs_enabled = False
    # Without "local", a foreign cluster on this machine would be joined.
    ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **asked)
    if address is None:
        guard_token()


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes, in silence, to reach a host that does not answer."""
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: over Ray's client a search would end with this machine's connection",
            "`rarecall launch STUDY --on jobs --address http://HEAD:8265` has its driver on the cluster",
        )
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def places(resources: Resources, address: str | None) -> tuple[int, str]:
    """How many runs there is room for at a time, as things are now, and in words what decides that.

    Args:
        resources: What one run will occupy.
        address: As of `RayCluster`; with None nothing is started.

    Raises:
        RunError: The cluster cannot be reached.
    """
    if address is None:
        return room_for(resources, [local_resources()], "this machine")
    with connected(address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return room_for(resources, nodes, f"{len(nodes)} nodes")


def occupied(config: dict[str, Any]) -> dict[str, float]:
    """What Ray reserves for a run, by its configuration."""
    resources = Resources.model_validate(config["resources"])
    return {"CPU": resources.cpu, "GPU": 1 if config["whole_device"] else resources.gpu}


def _is_own() -> bool:
    """Whether this process has started the Ray that it is connected to."""
    node = ray._private.worker._global_node
    return node is None or bool(node.all_processes)


def run_connected(
    work: Work, files: RunFiles, asked: Asked, stop: Stop | None = None, reads: Sequence[str] = ()
) -> None:
    """A `protocol.Launch` of a process that is `connected`.

    Args:
        work: Called from one thread only, which is another than this one.
        files: Where the runs leave theirs.
        asked: What one run occupies, unless it needs a whole GPU.
        stop: As of `RayCluster`.
        reads: As of `protocol.Cluster`.
    """
    stop = Stop() if stop is None else stop
    if not _is_own():
        check_shared(files, reads)
    grown = None if _is_own() else may_grow_to()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    allotment = Allotment(asked, [*nodes, *nodes_to_come(grown)])
    ask_ahead(runs_at_once(grown, allotment.resources))
    folder, system = files.storage
    # The disk of this machine alone does not come back by itself.
    patience_s = 0.0 if _is_own() and system is None else AWAY_S
    root = f"{folder}/{files.root.name}"
    searcher = WorkSearcher(work, allotment, grown, patience_s=patience_s, root=root)
    newest = KeepNewest(files)
    tuner = tune.Tuner(
        tune.with_resources(train_on_ray, occupied),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=WorkScheduler(searcher),
            num_samples=-1,  # the work says when it is exhausted
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config["key"],
        ),
        run_config=tune.RunConfig(
            name=files.root.name,
            storage_path=folder,
            storage_filesystem=system,
            failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
            callbacks=[
                newest,
                CountsFromCheckpoint(),
                FreesName(),
                Started(searcher),
                EndsOverdue(searcher),
                SaysNothing(),
            ],
            stop=StopsOnError(searcher),
            verbose=0,
        ),
    )

    def fit() -> None:
        with _on_a_full_disk(searcher), newest.tidying():
            tuner.fit()
        if searcher.error is not None:
            raise searcher.error

    logging.getLogger("ray.tune.execution.tune_controller").addFilter(_unexpected)
    # It would put a traceback on the screen where it cannot save what nobody reads.
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    with stop.heard(request=files.stop_request):
        attended(fit, searcher.leave, _watch(), stop)


@contextmanager
def _on_a_full_disk(searcher: WorkSearcher) -> Iterator[None]:
    """Tune notes a trial's error, and its own state, on disks too; what the work has raised comes first."""
    try:
        yield
    except OSError as error:
        if not is_out_of_space(error):
            raise
        if searcher.error is None:
            hint = "make room, then go on with --resume"
            searcher.error = RunError(f"no space left on this machine: {error}", hint)


def _watch() -> Watch:
    """On the Ray that this process is connected to: that of its own, or one whose GCS may come back."""
    context, node = ray.get_runtime_context(), ray._private.worker._global_node
    if node is None:  # Ray is another process's
        return Watch({}, PATIENCE_S)
    own = [info.process.pid for infos in node.all_processes.values() for info in infos]
    host, _, port = context.gcs_address.rpartition(":")
    places = {"GCS": (host.strip("[]"), int(port))}
    for known in ray.nodes():
        if known["NodeID"] == context.get_node_id():
            places["raylet"] = (known["NodeManagerAddress"], known["NodeManagerPort"])
    return Watch(places, OWN_PATIENCE_S if own else PATIENCE_S, tuple(own))


def _unexpected(record: logging.LogRecord) -> bool:
    """Whether what Tune logs is news: it shows a traceback of each worker that we have killed, too."""
    return not (record.exc_info and "killed by `ray.kill`" in str(record.exc_info[1]))
