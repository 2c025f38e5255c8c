"""An analytic trainable with a known true front, for tests and for measuring what a search costs by itself.

No data and no torch: the metrics are smooth functions of the strategy, seed noise and a learning curve over
the epochs. The trade-off is real: sampling, class weights and logit adjustment raise `minority_recall` with
diminishing returns and cost `map50_95` with growing ones, the focal exponent has an interior optimum, and
`augment_rest`, `max_repeat`, `alpha_cap`, `class_balance`, `label_smoothing`, `defer`, `copy_paste`, `mosaic`
and `mixup` do nothing.

`spec.train.model` is `toy`, or `toy:` and faults separated by commas:
    sleep=0.2    seconds that each epoch takes
    nan          the loss is not finite at epoch 1 (nan=3: at epoch 3)
    raise        an exception at epoch 1 (raise=3: at epoch 3)
    kill_at=3    the process kills itself at the start of epoch 3, unless the run was resumed
    kill_each=2  it does so at the start of each epoch from 2 on, unless it was resumed there
    lost=3       it does so at the start of epoch 3, each time
    hang         it sleeps for ever at epoch 1 (hang=3: at epoch 3), unless the run was resumed
    receipt      the receipt says something else than was asked
    memory       it runs out of memory, unless it has a whole GPU (memory=2: whatever it has)
"""

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import UsageError
from spaces.strategy import Strategy
from trainables.contract.node import own_device, own_gpus
from trainables.contract.trial import (
    TRAIN_RECALL,
    Diverged,
    EpochMetrics,
    Metrics,
    OnEpoch,
    OutOfMemory,
    Trained,
    TrialFolder,
    TrialSpec,
)
from trainables.data.demo.toy import COUNTS

SEED_SD = {  # of the final metric over seeds
    "minority_recall": 0.03,
    "map50_95": 0.008,
    "minority_ap50": 0.02,
    "macro_f1": 0.01,
    "accuracy": 0.005,
}
TRAIN_GAP = 0.1  # of the recall on the training images over the one measured
EPOCH_SD = 0.25  # noise of one evaluation, as a share of the seed's
CURVE_RATE = 3.5  # the curve is 1 - exp(-rate * share of training done), scaled to end at 1
FAULTS = {
    "sleep": 0.0,
    "nan": 1.0,
    "raise": 1.0,
    "kill_at": 1.0,
    "kill_each": 2.0,
    "lost": 1.0,
    "hang": 1.0,
    "receipt": 1.0,
    "memory": 1.0,
}  # name -> value if none given
STATE = "state.json"


def true_metrics(strategy: Strategy) -> dict[str, float]:
    """Metrics at the end of training without noise, each in [0, 1].

    Example:
        >>> true_metrics(Strategy())["minority_recall"]
        0.35
    """
    knobs = strategy.knobs()
    # How hard the strategy pushes towards the rare class, from 0 for the baseline to 3.65.
    drawn = knobs["sampler_power"] + 0.5 * knobs["repeat_threshold"]
    left = 1 - knobs["alpha_prior"] * min(1.0, drawn)  # for the loss to correct, once the draws have
    corrected = (0.6 * knobs["alpha_power"] + 0.4 * knobs["logit_tau"]) * left
    push = drawn + corrected + 0.75 * (1 - knobs["retention"])
    augmented = knobs["augment_minority"] * (1.4 - knobs["augment_minority"]) / 0.49  # best at 0.7
    focal = knobs["focal_gamma"] * (2 - knobs["focal_gamma"])  # best at 1, harmful beyond 2
    starved = max(0.0, 0.3 - knobs["retention"])
    recall = 0.35 + 0.30 * (1 - math.exp(-1.3 * push)) - 0.03 * push**2 + 0.08 * augmented + 0.02 * focal
    overall = 0.50 - 0.030 * push**2 + 0.012 * augmented + 0.004 * focal - 0.6 * starved
    ranking = 0.40 + 0.05 * push - 0.03 * push**2 + 0.05 * augmented
    exact = {
        "minority_recall": recall,
        "map50_95": overall,
        "minority_ap50": ranking,
        "macro_f1": overall + 0.25,
        "accuracy": overall + 0.40,
    }
    return {name: min(1.0, max(0.0, value)) for name, value in exact.items()}


def train_toy(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Trained:
    """Go through the motions of training: a learning curve, a checkpoint per epoch, a receipt.

    Raises:
        Diverged: The fault `nan`.
        OutOfMemory: The fault `memory`.
        RuntimeError: The fault `raise`.
        UsageError: `spec.train.model` cannot be read.
    """
    faults = parse_faults(spec.train.model)
    final = true_metrics(spec.strategy)
    state = _first_state(spec) if folder.resume is None else _read_state(folder.resume)
    began = state["epoch"] + 1
    rng = np.random.default_rng()
    rng.bit_generator.state = state["rng"]
    measured: Metrics = {}
    for epoch in range(began, spec.train.epochs + 1):
        _misbehave(faults, epoch, began=began, resumed=folder.resume is not None)
        done = epoch / spec.train.epochs
        share = (1 - math.exp(-CURVE_RATE * done)) / (1 - math.exp(-CURVE_RATE))
        measured = {
            name: min(1.0, max(0.0, share * value + state["offset"][name] + rng.normal(0, EPOCH_SD * sd)))
            for (name, value), sd in zip(final.items(), SEED_SD.values(), strict=True)
        }
        state |= {"epoch": epoch, "rng": rng.bit_generator.state, "metrics": measured}
        if folder.saves.due(last=epoch == spec.train.epochs):
            _write_state(folder.checkpoint, state)
        on_epoch(EpochMetrics(epoch=epoch, metrics=measured))
    _write_state(folder.result, state)
    common, rare = COUNTS["train"]
    kept = rare + round(common * spec.strategy.sampling.retention)
    on_train = min(1.0, state["metrics"]["minority_recall"] + TRAIN_GAP)
    return Trained(
        metrics=state["metrics"] | {TRAIN_RECALL: on_train},
        applied=_receipt(spec) | ({"seed": spec.seed + 1} if "receipt" in faults else {}),
        exposure=_exposure(spec.strategy),
        images_seen=spec.train.steps * spec.train.batch,
        unique_images=min(spec.train.steps * spec.train.batch, kept),
        steps=spec.train.steps,
        device="cpu",
    )


def parse_faults(model: str) -> dict[str, float]:
    """Faults of a model string such as `toy:sleep=0.2,kill_at=3`: name -> value.

    Raises:
        UsageError: It is not of that form.
    """
    name, _, listed = model.partition(":")
    faults = {}
    for fault in filter(None, listed.split(",")):
        key, _, value = fault.partition("=")
        if key not in FAULTS:
            raise UsageError(f"train.model: no such toy fault '{key}'", f"faults: {', '.join(FAULTS)}")
        try:
            faults[key] = float(value) if value else FAULTS[key]
        except ValueError:
            raise UsageError(f"train.model: {key} needs a number, got '{value}'") from None
    if name != "toy":
        raise UsageError(f"train.model: the toy task has no model '{name}'", "write toy, or toy:sleep=0.2")
    return faults


def _misbehave(faults: Mapping[str, float], epoch: int, *, began: int, resumed: bool) -> None:
    """Commit the faults of an epoch; `began` is the first that this process trains."""
    time.sleep(faults.get("sleep", 0.0))
    once = faults.get("kill_at") == epoch and not resumed
    each = faults.get("kill_each", math.inf) <= epoch != began
    if once or each or faults.get("lost") == epoch:
        os.kill(os.getpid(), signal.SIGKILL)
    while faults.get("hang") == epoch and not resumed:
        time.sleep(3600)
    if own_gpus() < faults.get("memory", 0.0):
        raise OutOfMemory(f"the toy was told to need more than {own_gpus():g} of a GPU")
    if faults.get("nan") == epoch:
        raise Diverged(f"the toy's loss is not finite at epoch {epoch}")
    if faults.get("raise") == epoch:
        raise RuntimeError(f"the toy was told to raise at epoch {epoch}")


def _receipt(spec: TrialSpec) -> dict[str, Any]:
    """The toy trains no object to read anything back from, so this repeats what was asked."""
    return {
        **spec.strategy.knobs(),
        "steps": spec.train.steps,
        "batch": spec.train.batch,
        "accumulate": spec.train.accumulate,
        "amp": spec.train.amp,
        "device": own_device(),
        "lr": spec.train.lr,
        "seed": spec.seed,
        "majority_images": COUNTS["train"][0],
        "minority_images": COUNTS["train"][1],
        "minority_share": _exposure(spec.strategy),
    }


def _exposure(strategy: Strategy) -> float:
    """Share of the draws that are rare images; here the cap never binds."""
    common, rare = COUNTS["train"]
    kept = common * strategy.sampling.retention
    if kept == 0:
        return 1.0
    share = np.array([kept, rare]) / (kept + rare)
    repeat = np.maximum(1.0, np.sqrt(strategy.sampling.repeat_threshold / share))
    drawn = share * share**-strategy.sampling.sampler_power * repeat  # (2,)
    return float(drawn[1] / drawn.sum())


def _first_state(spec: TrialSpec) -> dict[str, Any]:
    """State before epoch 1; the noise depends on seed, strategy and split, not on the injected faults."""
    # Without the knobs that came later and are off: what was measured before is measured so again.
    known = {knob: value for family in spec.strategy.keyed().values() for knob, value in family.items()}
    knobs = json.dumps([known, spec.split], sort_keys=True).encode()
    rng = np.random.default_rng((spec.seed, int.from_bytes(hashlib.sha256(knobs).digest()[:8])))
    offset = {name: rng.normal(0, sd) for name, sd in SEED_SD.items()}
    return {"epoch": 0, "offset": offset, "rng": rng.bit_generator.state, "metrics": {}}


def _read_state(folder: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / STATE).read_text())
    return stored


def _write_state(folder: Path, state: Mapping[str, Any]) -> None:
    partial = folder / f"{STATE}.tmp"
    partial.write_text(json.dumps(state))
    os.replace(partial, folder / STATE)
