"""The function that Ray runs on a worker: a configuration in, epochs and an outcome out."""

import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainables.contract.node import GPUS
from trainables.contract.space import is_out_of_space, out_of_space
from trainables.contract.trial import EpochMetrics, TrialFolder, TrialReport, TrialSpec
from trainables.contract.trust import trusting_weights
from trainables.worker.run import run_trial

EPOCH, OUTCOME = "epoch", "outcome"  # what a run reports, as JSON


def train_on_ray(config: dict[str, Any]) -> None:
    """Run one trial inside Ray Tune.

    Every epoch's metrics are reported with a checkpoint, so that a killed worker's trial goes on from there;
    the last epoch comes with the outcome (as JSON), and for a report with the result files as its checkpoint.

    Args:
        config: `spec`, a dumped `TrialSpec`; `resume`, a checkpoint folder of an earlier attempt or None;
            `whole_device`, which decides what Ray reserves; `trust_weights`, whether pickles are loaded.
    """
    _forget_last_trial()
    hide_other_gpus()
    use_own_cpus()
    note_own_gpus()
    spec = TrialSpec.model_validate(config["spec"])
    try:
        _train(spec, config)
    except OSError as error:  # raised by Ray, which copies what is reported
        if not is_out_of_space(error):
            raise
        place = Path(tune.get_context().get_trial_dir())
        tune.report({OUTCOME: out_of_space(spec.key, error, place).model_dump_json()})


def _train(spec: TrialSpec, config: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix=f"rarecall-{spec.key}-") as scratch:
        folder = TrialFolder(Path(scratch), _resume_from(config["resume"], Path(scratch)))
        last: dict[str, Any] = {}

        def report_epoch(measured: EpochMetrics) -> None:
            result = {EPOCH: measured.model_dump_json()}
            if measured.epoch < spec.epochs:
                tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder.checkpoint))
            else:  # its checkpoint would be replaced at once by the result
                last.update(result)

        with trusting_weights(config["trust_weights"]):
            outcome = run_trial(spec, folder, report_epoch)
        files = tune.Checkpoint.from_directory(folder.result) if isinstance(outcome, TrialReport) else None
        tune.report(last | {OUTCOME: outcome.model_dump_json()}, checkpoint=files)


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


def _forget_last_trial() -> None:
    """Free what the reused worker's last trial left: cycles keep models alive, and with them GPU memory."""
    if gc.get_freeze_count() > 0:  # else this is the worker's first trial
        gc.collect()
    # What lives on between trials is modules. Without this, looking through them takes a short trial's time.
    gc.freeze()


def _resume_from(earlier: str | None, scratch: Path) -> Path | None:
    """A local copy of the newest checkpoint: Ray's own after a lost worker, else the earlier attempt's."""
    newest = tune.get_checkpoint()
    if newest is None:
        return Path(earlier) if earlier is not None else None
    return Path(newest.to_directory(str(scratch / "resume")))
