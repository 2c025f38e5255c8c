"""What a trial in a reused worker spends outside training, validation and checkpoints.

Trials of demo:cytology run one after the other on a local Ray that reuses its worker, as a search does. The
first one imports, decodes the images and so on; the figures are medians over those after it:

- outside: wall seconds from the call of the trainable to its end that are neither in the loop over batches,
  nor in measuring a split, nor in a checkpoint. Making the model and the loaders, ending, writing the result.
- checkpoint: wall seconds per epoch, from collecting the state until Ray has stored it.

Both also in CPU time of the worker, which other work on the machine changes little.

    RARECALL_CACHE=/tmp/cache python benchmarks/second_trial.py [--trials 6]

The last line is `outside A checkpoint B`, wall seconds; the bars are 0.5 and 0.2 on an idle machine.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune

from search.cluster.launch import connected
from spaces.strategy import NAMED
from trainables.contract.trial import DataSpec, TrainSpec, TrialSpec

TRAIN: dict[str, Any] = {"model": "yolo_tiny.yaml", "imgsz": 128, "batch": 16, "steps": 40, "eval_every": 20}
CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time}


class Phases:
    """Seconds by phase and clock, each moment charged to the innermost phase that is open."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open = ["outside"]
        self._since = self._now()

    def enter(self, phase: str) -> None:
        self._charge()
        self._open.append(phase)

    def leave(self, phase: str) -> None:
        self._charge()
        assert self._open.pop() == phase

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        self.enter(phase)
        yield
        self.leave(phase)

    def _now(self) -> dict[str, float]:
        return {name: clock() for name, clock in CLOCKS.items()}

    def _charge(self) -> None:
        now = self._now()
        self.seconds.update({f"{self._open[-1]} {name}": now[name] - self._since[name] for name in now})
        self._since = now


def timed_trial(config: dict[str, Any]) -> None:
    """One trial, as a search runs it, that writes its seconds by phase."""
    spec, out = config["trial"]["spec"], config["trial"]["out"]
    # Imported in the worker, where they are needed.
    from trainables.detector import trainer  # noqa: PLC0415
    from trainables.detector.strategy_run import StrategyRun  # noqa: PLC0415
    from trainables.worker.tune_adapter import train_on_ray  # noqa: PLC0415

    phases = Phases()

    class TimedRun(StrategyRun):
        def __init__(self, spec: Any, folder: Any, data: Any, on_epoch: Any) -> None:
            def timed_on_epoch(measured: Any) -> None:
                with phases.of("checkpoint"):
                    on_epoch(measured)

            super().__init__(spec, folder, data, timed_on_epoch)
            self.add_callback("on_train_epoch_start", lambda run: phases.enter("training"))
            self.add_callback("on_train_epoch_end", lambda run: phases.leave("training"))

        def predict_split(self, split: str) -> Any:
            with phases.of("validation"):
                return super().predict_split(split)

        def report_epoch(self) -> None:
            with phases.of("validation"):
                super().report_epoch()

        def save_model(self) -> bool:
            with phases.of("checkpoint"):
                return super().save_model()

    trainer.StrategyRun = TimedRun
    train_on_ray({"spec": spec, "resume": None, "trust_weights": False, "measure": False})
    phases.enter("done")
    Path(out).write_text(json.dumps({"pid": os.getpid(), **phases.seconds}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rarecall-second-") as scratch, connected(None, cpus=1):
        outs = [Path(scratch) / f"{trial}.json" for trial in range(args.trials)]
        configs = [{"spec": spec_of(trial), "out": str(out)} for trial, out in enumerate(outs)]
        tune.Tuner(
            tune.with_resources(timed_trial, {"CPU": 1}),
            param_space={"trial": tune.grid_search(configs)},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
            run_config=tune.RunConfig(name="trials", storage_path=scratch, verbose=0),
        ).fit()
        trials = [json.loads(out.read_text()) for out in outs]
    print_phases(trials)


def spec_of(trial: int) -> dict[str, Any]:
    """A dumped spec; strategies take turns, as in a search."""
    names = ("undersampled_40_augmented", "weighted", "focal_alpha")
    return TrialSpec(
        task="detection",
        strategy=NAMED[names[trial % len(names)]],
        data=DataSpec(source="demo:cytology", minority=("cluster",)),
        train=TrainSpec.model_validate(TRAIN),
        seed=trial,
    ).model_dump(mode="json")


def print_phases(trials: list[dict[str, float]]) -> None:
    if len({trial["pid"] for trial in trials}) != 1:
        raise RuntimeError("Ray did not reuse the worker")
    for number, trial in enumerate(trials):
        shown = ", ".join(f"{name} {value:.3f}" for name, value in sorted(trial.items()) if name != "pid")
        print(f"trial {number}: {shown}")
    epochs = TRAIN["steps"] // TRAIN["eval_every"]
    later = trials[1:]
    for clock in ("CPU", "wall"):  # the last line is wall
        outside = statistics.median(trial[f"outside {clock}"] for trial in later)
        checkpoint = statistics.median(trial[f"checkpoint {clock}"] / epochs for trial in later)
        label = "" if clock == "wall" else f"{clock} time: "
        print(f"{label}outside {outside:.3f} checkpoint {checkpoint:.3f}")


if __name__ == "__main__":
    main()
