"""The function that Ray runs on a worker: a configuration in, epochs and an outcome out."""

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainables.contract.node import GPUS, NodeLacks
from trainables.contract.space import is_out_of_space, out_of_space
from trainables.contract.trial import EpochMetrics, Saves, TrialFolder, TrialReport, TrialSpec
from trainables.contract.trust import trusting_weights
from trainables.data.staging.staged import as_seen
from trainables.worker.leaving import leaving_nothing
from trainables.worker.metering import metered
from trainables.worker.run import run_trial

EPOCH, OUTCOME, USED = "epoch", "outcome", "used"  # what a run reports, as JSON
SEEN_S = 60.0  # that what a run reads may be away
AGAIN_S = 5.0  # until a storage that is away is tried again
OF_NODE = ("CPU", "GPU", "memory", "accelerator_type:")  # how the names begin of what matters of a node


def train_on_ray(config: dict[str, Any]) -> None:
    """Run one trial inside Ray Tune.

    Every epoch's metrics are reported, with the checkpoint if it is new, so that a killed worker's trial goes
    on from there; the last epoch comes with the outcome (as JSON), and for a report with the result files as
    its checkpoint.

    Args:
        config: `spec`, a dumped `TrialSpec`; `resume`, an earlier attempt's checkpoint by folder or address,
            or None; `whole_device` and `resources`, which decide what Ray reserves; `trust_weights`, whether
            pickles are loaded; `seen`, as of `staged.seen`; `measure`, whether to report with its first epoch
            what it has used; `checkpoint_s`, as of `SearchConfig`; `patience_s`, with a storage that is away;
            `place`, where that keeps the run.
    """
    hide_other_gpus()
    use_own_cpus()
    note_own_gpus()
    spec = TrialSpec.model_validate(config["spec"])
    check_reads(spec, min(SEEN_S, config["patience_s"]))
    try:
        with leaving_nothing():
            _train(spec, config)
    except OSError as error:  # raised by Ray, which copies what is reported
        if not is_out_of_space(error):
            raise
        here = Path(tune.get_context().get_trial_dir())
        tune.report({OUTCOME: out_of_space(spec.key, error, Path(config["place"]), here).model_dump_json()})


def _train(spec: TrialSpec, config: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix=f"rarecall-{spec.key}-") as scratch:
        resume = _resume_from(config["resume"], Path(scratch))
        folder = TrialFolder(Path(scratch), resume, Saves(config["checkpoint_s"]))
        last: dict[str, Any] = {}

        def report_epoch(measured: EpochMetrics) -> None:
            result = {EPOCH: measured.model_dump_json()}
            if meter is not None and meter.running:
                result[USED] = meter.used(own_node()).model_dump_json()
            if measured.epoch < spec.epochs:
                new = tune.Checkpoint.from_directory(folder.checkpoint) if folder.saves.fresh else None
                _report(result, new, config["patience_s"])
            else:  # its checkpoint would be replaced at once by the result
                last.update(result)

        with (
            trusting_weights(config["trust_weights"]),
            as_seen(config["seen"]),
            metered(asked=config["measure"]) as meter,
        ):
            outcome = run_trial(spec, folder, report_epoch)
        files = tune.Checkpoint.from_directory(folder.result) if isinstance(outcome, TrialReport) else None
        _report(last | {OUTCOME: outcome.model_dump_json()}, files, config["patience_s"])


def _report(result: dict[str, Any], files: tune.Checkpoint | None, patience_s: float) -> None:
    """Report to Ray, which copies the files first: if that fails for want of a storage, again in a while."""
    until = time.monotonic() + patience_s
    while True:
        try:
            tune.report(result, checkpoint=files)
            return
        except OSError as error:
            if is_out_of_space(error) or time.monotonic() + AGAIN_S > until:
                raise
        time.sleep(AGAIN_S)


def check_reads(spec: TrialSpec, patience_s: float) -> None:
    """Whether this node sees what a run reads, as the driver's does: it may have joined later.

    Args:
        spec: Of the run.
        patience_s: How long a shared folder may be away.

    Raises:
        NodeLacks: It does not.
    """
    named = (spec.data.source, spec.data.annotations, spec.train.model, spec.train.weights)
    until = time.monotonic() + patience_s
    for path in named:
        while path is not None and path.startswith("/") and not os.path.exists(path):
            if time.monotonic() >= until:
                raise NodeLacks(f"the node {socket.gethostname()} ({own_address()}) does not see {path}")
            time.sleep(1.0)


def own_address() -> str:
    """By which others reach this node."""
    return str(ray.util.get_node_ip_address())


def hide_other_gpus() -> None:
    """Leave a run without a GPU of its own none to use: Ray shows it all of the node's."""
    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def use_own_cpus() -> None:
    """Let a run compute on as many threads as it has CPUs.

    Ray says so by itself only where OMP_NUM_THREADS is not set, and `ray up` sets it to 1 on each node.
    """
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(cpus)))


def note_own_gpus() -> None:
    """Let a run know how much of a GPU it has, for it to hold against what it trains on."""
    gpus = ray.get_runtime_context().get_assigned_resources().get("GPU", 0)
    os.environ[GPUS] = f"{gpus:g}"


def own_node() -> dict[str, float]:
    """What the node has in all that this process is on."""
    own = ray.get_runtime_context().get_node_id()
    has = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == own)
    return {name: value for name, value in has.items() if name.startswith(OF_NODE)}


def _resume_from(earlier: str | None, scratch: Path) -> Path | None:
    """A local copy of the newest checkpoint: Ray's own after a lost worker, else the earlier attempt's."""
    newest = tune.get_checkpoint()
    if newest is None and earlier is not None and "://" in earlier:
        newest = tune.Checkpoint(earlier)
    if newest is None:
        return Path(earlier) if earlier is not None else None
    return Path(newest.to_directory(str(scratch / "resume")))
