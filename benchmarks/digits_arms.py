"""Arms times seeds on the digits study, without a search: a markdown table of means and standard deviations.

python -m benchmarks.digits_arms                     every named strategy, 5 seeds
python -m benchmarks.digits_arms --random 20         also 20 uniform points of the space, one seed each
python -m benchmarks.digits_arms --arms plain weighted --seeds 10 --split test
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from spaces.ranges import Choice
from spaces.strategy import NAMED, SearchSpace, Strategy
from trainables.run import run_trial
from trainables.trial import DataSpec, TrainSpec, TrialFailure, TrialFolder, TrialReport, TrialSpec

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "examples" / "digits.yaml"
SPACE = ROOT / "spaces" / "presets" / "classification.yaml"
METRICS = ("minority_recall", "macro_f1", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(NAMED), choices=list(NAMED), metavar="ARM")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds per arm")
    parser.add_argument("--random", type=int, default=0, help="random points of the space, one seed each")
    parser.add_argument("--split", default="val", choices=["val", "test"])
    args = parser.parse_args()

    study = yaml.safe_load(STUDY.read_text())
    print(f"train {study['train']}, split {args.split}, {args.seeds} seeds\n")
    print("| arm | " + " | ".join(METRICS) + " | exposure | seconds |")
    print("|---|" + "---|" * (len(METRICS) + 2))
    for name in args.arms:
        row(name, [trial(study, NAMED[name], 1000 + seed, args.split) for seed in range(args.seeds)])
    for number, strategy in enumerate(random_points(args.random)):
        row(described(strategy), [trial(study, strategy, 2000 + number, args.split)])


def trial(study: dict, strategy: Strategy, seed: int, split: str) -> TrialReport:
    spec = TrialSpec(
        task=study["task"],
        strategy=strategy,
        data=DataSpec(source=study["data"], minority=tuple(study["minority"])),
        train=TrainSpec.model_validate(study["train"]),
        seed=seed,
        split=split,
    )
    with tempfile.TemporaryDirectory() as root:
        outcome = run_trial(spec, TrialFolder(Path(root)), lambda _: None)
    if isinstance(outcome, TrialFailure):
        raise SystemExit(outcome.reason)
    return outcome


def row(name: str, reports: list[TrialReport]) -> None:
    cells = [spread(report.metrics[metric] for report in reports) for metric in METRICS]
    exposure = np.mean([report.exposure for report in reports])
    seconds = np.median([report.seconds for report in reports])
    print(f"| {name} | {' | '.join(cells)} | {exposure:.3f} | {seconds:.1f} |", flush=True)


def spread(values: Iterable[float | None]) -> str:
    """Mean ± sd; the mean alone of a single value."""
    known = np.array([value for value in values if value is not None])
    return f"{known.mean():.3f}" + (f" ± {known.std(ddof=1):.3f}" if len(known) > 1 else "")


def random_points(n: int) -> list[Strategy]:
    """Points of the preset space, drawn uniformly, always the same ones."""
    space = SearchSpace.model_validate(yaml.safe_load(SPACE.read_text()))
    rng = np.random.default_rng(0)
    return [
        Strategy.from_knobs(
            {
                knob: rng.choice(dim.choices) if isinstance(dim, Choice) else rng.uniform(dim.low, dim.high)
                for knob, dim in space.dimensions.items()
            }
        )
        for _ in range(n)
    ]


def described(strategy: Strategy) -> str:
    return ", ".join(f"{knob} {value:.2f}" for knob, value in strategy.changed().items())


if __name__ == "__main__":
    main()
