"""Named strategies x seeds on the data of a study file, at equal steps, without a search: a markdown table.

Usage:
    python benchmarks/arms.py examples/digits.yaml
    python benchmarks/arms.py examples/cytology.yaml --processes 2 --out runs/arms.jsonl

Prints mean ± sd over seeds. A run that `--out` already holds is not repeated.
"""

import argparse
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from search.pipeline.opening import data_of
from search.request.reading import load_config
from spaces.strategy import NAMED
from trainables.contract.trial import TrialFailure, TrialFolder, TrialReport, TrialSpec
from trainables.worker.run import run_trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--arms", nargs="+", default=list(NAMED), choices=sorted(NAMED), metavar="ARM")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--first-seed", type=int, default=100, help="a search with seed 0 has the few from 0 on"
    )
    parser.add_argument("--split", default="val", choices=["val", "test"])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file of reports, one JSON a line")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per process

    config = load_config(args.study)
    data, _ = data_of(config, args.study.name)
    specs = {
        arm: [
            config.spec(NAMED[arm], data, seed=args.first_seed + i).model_copy(update={"split": args.split})
            for i in range(args.seeds)
        ]
        for arm in args.arms
    }
    reports = _stored(args.out)
    missing = [spec for runs in zip(*specs.values(), strict=True) for spec in runs if spec.key not in reports]
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        for report in pool.map(measure, missing):
            reports[report.key] = report
            if args.out is not None:
                with args.out.open("a") as stored:
                    stored.write(report.model_dump_json() + "\n")

    columns = list(dict.fromkeys([*config.objectives, *(guard.metric for guard in config.guards)]))
    print(f"| arm | {' | '.join(columns)} | exposure | seconds |")
    print(f"|---|{'---|' * (len(columns) + 2)}")
    for arm in args.arms:
        runs = [reports[spec.key] for spec in specs[arm]]
        cells = [spread([run.metrics[name] for run in runs]) for name in columns]
        exposure = statistics.fmean(run.exposure for run in runs)
        seconds = statistics.median(run.seconds for run in runs)
        print(f"| {arm} | {' | '.join(cells)} | {exposure:.3f} | {seconds:.1f} |")


def measure(spec: TrialSpec) -> TrialReport:
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_trial(spec, TrialFolder(root=Path(scratch)), lambda measured: None)
    if isinstance(outcome, TrialFailure):
        raise RuntimeError(outcome.reason)
    return outcome


def _stored(path: Path | None) -> dict[str, TrialReport]:
    if path is None or not path.exists():
        return {}
    reports = map(TrialReport.model_validate_json, path.read_text().splitlines())
    return {report.key: report for report in reports}


def spread(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return f"{known[0]:.3f}" if known else "-"
    return f"{statistics.fmean(known):.3f} ± {statistics.stdev(known):.3f}"


if __name__ == "__main__":
    main()
