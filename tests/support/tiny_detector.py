"""A detector that trains in a second or two, for tests: drawn tiles, a spec, a run set up, what it leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from trials import report_of

from spaces.strategy import Strategy
from trainables.contract.trial import DataSpec, Split, TrainSpec, TrialFolder, TrialReport, TrialSpec
from trainables.data.boxes.data_set import detection_once
from trainables.detector.strategy_run import StrategyRun

SIDE = 64
SPLITS = {"train": 20, "val": 8}
# What a detector's criterion, sampler and pipelines can do, all at once.
FOCAL_ALPHA_WEIGHTED = {"sampler_power": 0.5, "focal_gamma": 1.5, "alpha_power": 0.5}
EVERYTHING = FOCAL_ALPHA_WEIGHTED | {
    "retention": 0.5,
    "max_repeat": 4,
    "alpha_cap": 9,
    "augment_minority": 0.5,
    "augment_rest": 0.2,
    "copy_paste": 0.5,
    "mosaic": 0.5,
    "mixup": 0.3,
}


def draw_tiles(root: Path, splits: Mapping[str, int] = SPLITS, *, rare_every: int = 4) -> Path:
    """Write tiles of dark squares, so many per split, each n-th with a big bright one; the data.yaml."""
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(100, 140, (SIDE, SIDE, 3))
            lines = []
            clusters = [(1, 28, 240)] * (i % rare_every == 0)
            for c, side, light in [(0, 10, 20)] * int(rng.integers(1, 4)) + clusters:
                x, y = rng.integers(0, SIDE - side, 2)
                pixels[y : y + side, x : x + side] = light
                centre_and_size = np.array([x + side / 2, y + side / 2, side, side]) / SIDE
                lines.append(" ".join(map(str, [c, *centre_and_size])))
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / split / f"{split}_{i}.png")
            (root / "labels" / split / f"{split}_{i}.txt").write_text("\n".join(lines))
    described = {split: f"images/{split}" for split in splits} | {"names": ["cell", "cluster"]}
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    return root / "data.yaml"


def tiny_spec(
    data: Path, knobs: Mapping[str, float], *, seed: int = 0, split: Split = "val", **train: Any
) -> TrialSpec:
    """Four epochs of two batches of four tiles, unless `train` says otherwise."""
    usual = {"model": "yolo_tiny.yaml", "imgsz": SIDE, "batch": 4, "steps": 8, "eval_every": 2}
    return TrialSpec(
        task="detection",
        strategy=Strategy.from_knobs(knobs),
        data=DataSpec(source=str(data), minority=("cluster",)),
        train=TrainSpec.model_validate(usual | train),
        seed=seed,
        split=split,
    )


def set_up(spec: TrialSpec, root: Path, resume: Path | None = None) -> StrategyRun:
    """A run that has its data, model and criterion, and has not trained."""
    data = detection_once(Path(spec.data.source))
    run = StrategyRun(spec, TrialFolder(root, resume), data, lambda epoch, predictions: None)
    run._setup_train()
    return run


def weights_in(root: Path) -> dict[str, torch.Tensor]:
    # Ultralytics stores the module itself.
    state: dict[str, torch.Tensor] = torch.load(root / "result" / "weights.pt", weights_only=False)[
        "model"
    ].state_dict()
    return state


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors in which two states differ by a single bit."""
    assert one.keys() == other.keys()
    return [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]


def state_in(root: Path) -> dict[str, torch.Tensor]:
    """Every number that the last checkpoint holds, flat: model, EMA, optimizer, scales, counts."""
    found: dict[str, torch.Tensor] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}/{key}")
        elif isinstance(value, list | tuple):
            walk(dict(enumerate(value)), name)
        elif isinstance(value, int | float | torch.Tensor):
            found[name] = torch.as_tensor(value)

    walk(torch.load(root / "checkpoint" / "state.pt", weights_only=True), "")
    return found


def check_resumed(spec: TrialSpec, checkpoint: Path, root: Path) -> TrialReport:
    """The run that goes on from `checkpoint` ends exactly as one that was left alone, which is returned."""
    whole = report_of(spec, root / "whole")
    resumed = report_of(spec, root / "resumed", resume=checkpoint)
    assert different(weights_in(root / "whole"), weights_in(root / "resumed")) == []
    assert different(state_in(root / "whole"), state_in(root / "resumed")) == []
    assert resumed.restarts == 1
    timeless = {"seconds", "restarts"}
    assert resumed.model_dump(exclude=timeless) == whole.model_dump(exclude=timeless)
    return whole


def changed_pixels(label: Mapping[str, Any]) -> np.ndarray:
    """What a tile of a training data set will look like: its change may wait for the warp that all need."""
    change = label.get("change")
    return np.asarray(label["img"] if change is None else change.applied(label["img"]))
