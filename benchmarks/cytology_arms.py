"""Arms x seeds on `demo:cytology` at equal steps, with the training settings of `examples/cytology.yaml`.

    OMP_NUM_THREADS=1 python benchmarks/cytology_arms.py --seeds 5 --processes 2 --out runs/arms.jsonl

Prints a table: mean and sd over seeds. A run that `--out` already holds is not repeated.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from spaces.strategy import NAMED
from trainables.run import run_trial
from trainables.trial import DataSpec, TrainSpec, TrialFailure, TrialFolder, TrialReport, TrialSpec

STUDY = Path(__file__).parents[1] / "examples" / "cytology.yaml"
ARMS = (
    "plain",
    "undersampled_40",
    "weighted_half",
    "weighted",
    "undersampled_40_augmented",
    "weighted_augmented",
    "focal",
    "class_weighted",
)
COLUMNS = ("minority_recall", "minority_precision", "minority_ap50", "map50_95")


def main() -> None:
    options = parse_options()
    study = yaml.safe_load(STUDY.read_text())
    specs = [
        TrialSpec(
            task="detection",
            strategy=NAMED[arm],
            data=DataSpec(source=study["data"], minority=tuple(study["minority"])),
            train=TrainSpec.model_validate(study["train"] | options.train),
            seed=seed,
            split=options.split,
        )
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for arm in options.arms
    ]
    reports = read_reports(options.out)
    missing = [spec for spec in specs if spec.key not in reports]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for report in pool.map(measure, missing):
            reports[report.key] = report
            if options.out is not None:
                with options.out.open("a") as stored:
                    stored.write(report.model_dump_json() + "\n")
    print_table(options.arms, specs, reports)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=sorted(NAMED))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--split", default="val", choices=["val", "test"])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--train", type=json.loads, default={}, help="settings to replace, as json")
    parser.add_argument("--out", type=Path, help="json lines of reports")
    return parser.parse_args()


def measure(spec: TrialSpec) -> TrialReport:
    """Train one arm with one seed in a scratch folder."""
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_trial(spec, TrialFolder(root=Path(scratch)), lambda measured: None)
    if isinstance(outcome, TrialFailure):
        raise RuntimeError(outcome.reason)
    return outcome


def read_reports(path: Path | None) -> dict[str, TrialReport]:
    if path is None or not path.exists():
        return {}
    reports = map(TrialReport.model_validate_json, path.read_text().splitlines())
    return {report.key: report for report in reports}


def print_table(arms: list[str], specs: list[TrialSpec], reports: dict[str, TrialReport]) -> None:
    print(f"| arm | seeds | {' | '.join(COLUMNS)} | exposure | seconds |")
    print(f"|---|---|{'---|' * (len(COLUMNS) + 2)}")
    for arm in arms:
        runs = [reports[spec.key] for spec in specs if spec.strategy == NAMED[arm]]
        cells = [spread([run.metrics[name] for run in runs]) for name in COLUMNS]
        exposure = statistics.mean(run.exposure for run in runs)
        seconds = statistics.mean(run.seconds for run in runs)
        print(f"| {arm} | {len(runs)} | {' | '.join(cells)} | {exposure:.3f} | {seconds:.0f} |")


def spread(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    sd = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.mean(known):.3f} ± {sd:.3f}"


if __name__ == "__main__":
    main()
