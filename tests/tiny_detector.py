"""A detector that trains in a second or two, for tests: drawn tiles, a spec, a run, its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from spaces.strategy import Strategy
from trainables.run import run_trial
from trainables.trial import DataSpec, EpochMetrics, Outcome, TrainSpec, TrialFolder, TrialReport, TrialSpec

SIDE = 64
# What a detector's criterion, sampler and pipelines can do, all at once.
FOCAL_ALPHA_WEIGHTED = {"sampler_power": 0.5, "focal_gamma": 1.5, "alpha_power": 0.5}


def draw_tiles(root: Path) -> Path:
    """Write 20 training and 8 val tiles of dark squares, each fourth with a big bright one; the data.yaml."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 20, "val": 8}.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(100, 140, (SIDE, SIDE, 3))
            lines = []
            for c, side, light in [(0, 10, 20)] * int(rng.integers(1, 4)) + [(1, 28, 240)] * (i % 4 == 0):
                x, y = rng.integers(0, SIDE - side, 2)
                pixels[y : y + side, x : x + side] = light
                centre_and_size = np.array([x + side / 2, y + side / 2, side, side]) / SIDE
                lines.append(" ".join(map(str, [c, *centre_and_size])))
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / split / f"{split}_{i}.png")
            (root / "labels" / split / f"{split}_{i}.txt").write_text("\n".join(lines))
    described = {"train": "images/train", "val": "images/val", "names": ["cell", "cluster"]}
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    return root / "data.yaml"


def tiny_spec(data: Path, knobs: dict[str, float], **train: Any) -> TrialSpec:
    """Four epochs of two batches of four tiles, unless `train` says otherwise."""
    usual = {"model": "yolo_tiny.yaml", "imgsz": SIDE, "batch": 4, "steps": 8, "eval_every": 2}
    return TrialSpec(
        task="detection",
        strategy=Strategy.from_knobs(knobs),
        data=DataSpec(source=str(data), minority=("cluster",)),
        train=TrainSpec.model_validate(usual | train),
        seed=0,
    )


def outcome_of(spec: TrialSpec, root: Path, resume: Path | None = None) -> Outcome:
    root.mkdir(parents=True, exist_ok=True)
    return run_trial(spec, TrialFolder(root=root, resume=resume), _ignore)


def report_of(spec: TrialSpec, root: Path, resume: Path | None = None) -> TrialReport:
    outcome = outcome_of(spec, root, resume)
    assert isinstance(outcome, TrialReport), outcome
    return outcome


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


def _ignore(measured: EpochMetrics) -> None:
    pass
