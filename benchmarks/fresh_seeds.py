"""Retrain the best feasible trial of a study on fresh seeds: how much of what the search saw is left?

Usage: python benchmarks/fresh_seeds.py runs/digits [--seeds 3] [--trial N]

The gain is against the mean of the baseline's seeds, as the search measured it, on val.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from search.judging.choosing import choose
from search.pipeline.opening import data_of
from search.record.folder import StudyFolder
from trainables.contract.trial import TrialFolder, TrialReport
from trainables.worker.run import run_trial

FRESH = 500  # a study's own seeds are 1000 * its seed, and the few after it


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trial", type=int)
    args = parser.parse_args()
    study = StudyFolder(args.study).open()
    config, trial, baseline = study.config, choose(study, args.trial), study.baseline()
    assert trial.report is not None
    assert baseline is not None
    data, _ = data_of(config, args.study.name)
    first = config.search.seed * 1000 + FRESH
    reports = []
    for seed in range(first, first + args.seeds):
        with tempfile.TemporaryDirectory() as root:
            spec = config.spec(trial.strategy, data, seed=seed)
            outcome = run_trial(spec, TrialFolder(Path(root)), lambda measured: None)
        if not isinstance(outcome, TrialReport):
            raise SystemExit(f"seed {seed}: {outcome.kind}: {outcome.reason}")
        reports.append(outcome)
    print(f"trial {trial.number}; baseline: {len(baseline.seeds)} seeds; fresh: {args.seeds} seeds")
    for name in config.shown_metrics:
        fresh = [report.metrics[name] for report in reports]
        mean = statistics.fmean(value for value in fresh if value is not None)
        base, seen = baseline.metrics[name], trial.report.metrics[name]
        assert base is not None
        assert seen is not None
        values = ", ".join(f"{value:.3f}" for value in fresh)
        gains = f"in the search {seen - base:+.3f}, fresh {mean - base:+.3f}"
        print(f"{name}: baseline {base:.3f}, {gains} ({values})")


if __name__ == "__main__":
    main()
