"""What a search costs by itself: the toy trainable through rarecall and stock Ray Tune + OptunaSearch.

Three arms run the same number of trials of the same training (three epochs without sleep, a checkpoint each)
with the same sampler (TPE) and the same concurrency, alternating, each in a process of its own that joins one
running Ray. Timed is what happens between the finished `ray.init` and the last trial told: for rarecall that
includes making the study's folder and its SQLite record, for the others `Tuner.fit()` writing to a folder.
Imports and `ray.init` are excluded for all three.

    python benchmarks/overhead.py [--trials 40] [--repeats 3]

The last line is `ratio_default A ratio_reuse B`: rarecall's median wall time per trial over that of Ray Tune
as people write it, and over the same with `reuse_actors=True`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from spaces.strategy import Strategy
from trainables.contract.trial import DataSpec, EpochMetrics, TrainSpec, TrialFolder, TrialSpec
from trainables.worker.toy import train_toy

ARMS = ("rarecall", "default", "reuse")
OBJECTIVES = ["minority_recall", "map50_95"]
DATA = DataSpec(source="demo:toy", minority=("rare",))
TRAIN = {"model": "toy", "steps": 3, "eval_every": 1}
RANGES = {
    "retention": [0.3, 1.0],
    "sampler_power": [0.0, 1.0],
    "focal_gamma": [0.0, 2.0],
    "alpha_power": [0.0, 0.5],
    "augment_minority": [0.0, 1.0],
}
CPUS = 2  # and so two trials at once
TIMEOUT_S = 900


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm is None:
        compare(args.trials, args.repeats)
    else:
        print(time_arm(args.arm, args.address, args.trials))


def compare(trials: int, repeats: int) -> None:
    """Time every arm `repeats` times, alternating, on one local Ray."""
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    context = ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
    try:
        for repeat in range(repeats):
            for arm in ARMS:
                spent = in_a_process(arm, context.address_info["gcs_address"], trials)
                seconds[arm].append(spent / trials)
                print(f"repeat {repeat}: {arm} {spent / trials:.3f} s per trial", flush=True)
    finally:
        ray.shutdown()
    median = {arm: statistics.median(values) for arm, values in seconds.items()}
    for arm, value in median.items():
        print(f"{arm}: median {value:.3f} s per trial over {repeats} repeats of {trials} trials")
    load = os.getloadavg()[1]
    print(f"load average of the last 5 minutes: {load:.1f} on {os.cpu_count()} cores")
    ratios = {arm: median["rarecall"] / median[arm] for arm in ("default", "reuse")}
    print(f"ratio_default {ratios['default']:.2f} ratio_reuse {ratios['reuse']:.2f}")


def in_a_process(arm: str, address: str, trials: int) -> float:
    """Seconds of one arm, in a process of its own: what rarecall sets in Ray's environment stays in it."""
    done = subprocess.run(
        [sys.executable, __file__, "--arm", arm, "--address", address, "--trials", str(trials)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{arm} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])


def time_arm(arm: str, address: str, trials: int) -> float:
    """Seconds of `trials` trials of one arm on the Ray at `address`."""
    with tempfile.TemporaryDirectory(prefix="rarecall-overhead-") as scratch:
        if arm == "rarecall":
            return time_rarecall(address, trials, Path(scratch))
        ray.init(address=address, log_to_driver=False)
        started = time.perf_counter()
        run_stock(trials, Path(scratch), reuse_actors=arm == "reuse")
        return time.perf_counter() - started


def time_rarecall(address: str, trials: int, scratch: Path) -> float:
    # Imported here: it sets Ray's environment, which the stock arms must not see.
    from search.cluster.launch import connected, run_connected  # noqa: PLC0415
    from search.record.folder import StudyFolder  # noqa: PLC0415
    from search.request.config import StudyConfig  # noqa: PLC0415
    from search.work.search_queue import SearchQueue  # noqa: PLC0415

    config = StudyConfig.model_validate(
        {
            "name": "overhead",
            "task": "toy",
            "data": "demo:toy",
            "minority": ["rare"],
            "train": TRAIN,
            "space": RANGES,
            "baseline": {"seeds": 1},  # a run like any other, so one trial less
            "search": {"trials": trials - 1, "sampler": "tpe", "seed": 0},
        }
    )
    with connected(address):
        started = time.perf_counter()
        folder = StudyFolder(scratch / "overhead")
        study = folder.create(config, "none", DATA.minority)
        work = SearchQueue(study, folder.files, DATA, lambda snapshot: None, time.monotonic)
        run_connected(work, folder.files, config.resources)
        spent = time.perf_counter() - started
    states = [trial.state for trial in study.trials()]
    if not work.complete() or states != ["complete"] * (trials - 1):
        raise RuntimeError(f"not every trial was told: {states}")
    return spent


def run_stock(trials: int, scratch: Path, *, reuse_actors: bool) -> None:
    """Ray Tune with OptunaSearch as its documentation shows it, two objectives."""
    tuner = tune.Tuner(
        train_and_report,
        param_space={knob: tune.uniform(low, high) for knob, (low, high) in RANGES.items()},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=OBJECTIVES, mode=["max", "max"], seed=0),
            num_samples=trials,
            reuse_actors=reuse_actors,
        ),
        run_config=tune.RunConfig(name="overhead", storage_path=str(scratch), verbose=0),
    )
    results = tuner.fit()
    if len(results) != trials or results.num_errors:
        raise RuntimeError(f"{results.num_errors} of {len(results)} trials failed")


def train_and_report(config: dict[str, Any]) -> None:
    """The toy's training as a plain Ray function trainable: each epoch's metrics with a checkpoint."""
    spec = TrialSpec(
        task="toy",
        strategy=Strategy.from_knobs(config),
        data=DATA,
        train=TrainSpec.model_validate(TRAIN),
        seed=0,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = TrialFolder(Path(scratch))
        folder.checkpoint.mkdir()
        folder.result.mkdir()

        def report(measured: EpochMetrics) -> None:
            tune.report(measured.metrics, checkpoint=tune.Checkpoint.from_directory(folder.checkpoint))

        train_toy(spec, folder, report)


if __name__ == "__main__":
    main()
