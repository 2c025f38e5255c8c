"""The `rarecall` command: arguments in, a use case, an exit code out.

Exit codes: 0 done; 1 finished, but nothing is feasible or nothing accepted; 2 the person's error; 3 a
run-time or cluster failure; 130 interrupted.
"""

import argparse
import csv
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from search.cli.status import status
from search.export.bundle import choose, export_trial, verdicts
from search.judging.front import as_json, as_rows, best_feasible, front
from search.record.folder import StudyFolder
from search.record.study import Study
from search.request.config import load_config
from search.show.arms import arms_json, arms_table
from search.show.front import describe, pareto_table, strategies, wide_console
from spaces.errors import Interrupted, RarecallError, UsageError
from trainables.contract.trial import Task

TASKS: tuple[Task, ...] = ("detection", "classification")
STRATEGIES = "The strategies that have a name: their knobs, what they are, which `compare` runs unasked."
DONE, NOTHING_FOUND, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except Interrupted as stop:
        print(f"\ninterrupted; nothing finished is lost. Go on with:\n  {stop.hint}", file=sys.stderr)
        return INTERRUPTED
    except RarecallError as error:
        print(f"rarecall: {error}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        print("\ninterrupted before anything ran", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader (`| head`) has left; Python would complain while shutting down
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rarecall", description="Find what really lifts a rare class.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, what: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("study", type=Path, metavar="STUDY", help=what)
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.set_defaults(run=run)
        return sub

    file, folder = "a study file (yaml)", "a study's folder, e.g. runs/digits"
    named = commands.add_parser("strategies", help=STRATEGIES, description=STRATEGIES)
    named.add_argument("--task", choices=TASKS, help="default: all tasks")
    named.add_argument("--json", action="store_true", help="print JSON")
    named.set_defaults(run=_strategies)
    command("check", _check, "Validate a study file and its data; spends nothing.", file)
    search = command("search", _search, "Run a search.", f"{file}, or with --resume also {folder}")
    _add_cluster(search, "go on with an existing study")
    _add_runs(search)
    command("status", status, "Where a study stands, and what to type next.", folder)
    pareto = command("pareto", _pareto, "The Pareto front, against the baseline.", folder)
    pareto.add_argument(
        "--all", action="store_true", help="also dominated, infeasible, stopped and failed trials"
    )
    pareto.add_argument("--csv", action="store_true", help="print one line per trial as CSV")
    confirm = command(
        "confirm", _confirm, "Retrain the finalists on fresh seeds and decide, on the test split.", folder
    )
    _add_cluster(confirm, "go on with an interrupted confirmation")
    confirm.add_argument("--fresh", action="store_true", help="another confirmation, on seeds of its own")
    confirm.add_argument(
        "--trial", type=int, action="append", default=[], metavar="N", help="confirm this trial; repeatable"
    )
    confirm.add_argument(
        "--strategy", action="append", default=[], metavar="NAME", help="confirm this one; repeatable"
    )
    confirm.add_argument("--seeds", type=int, metavar="N", help="of each candidate")
    confirm.add_argument("--baseline-seeds", type=int, metavar="N", help="of the baseline")
    confirm.add_argument("--one-look", action="store_true", help="plan no second look")
    compare = command(
        "compare", _compare, "Named strategies side by side, exploratory.", f"{file}, or {folder}"
    )
    _add_cluster(compare, "go on with an interrupted comparison")
    _add_runs(compare)
    compare.add_argument("--csv", action="store_true", help="print one line per arm and metric as CSV")
    export = command("export", _export, "Write a trial's strategy, training arguments and weights.", folder)
    export.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="default: the surest of the accepted, else the best feasible one",
    )
    export.add_argument(
        "--out", type=Path, help="folder to write; default: export/trial-N in the study's folder"
    )
    return parser


def _add_cluster(command: argparse.ArgumentParser, resume: str) -> None:
    command.add_argument("--address", help="a running Ray cluster, e.g. auto; default: a local one")
    command.add_argument("--resume", action="store_true", help=resume)


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of all studies (default: runs)"
    )


def _strategies(args: argparse.Namespace) -> int:
    tasks = TASKS if args.task is None else (args.task,)
    if args.json:
        print(json.dumps(arms_json(tasks), indent=2))
    else:
        wide_console().print(arms_table(tasks))
    return DONE


def _check(args: argparse.Namespace) -> int:
    config = load_config(args.study)
    pipeline = _pipeline()
    data, summary = pipeline.data_of(config, args.study.name)
    lacking = pipeline.impossible_here(config.resources)
    shown = {
        "study": config.name,
        "minority": list(data.minority),
        "images": {split: counted.images for split, counted in summary.splits.items()},
        "objects": {split: counted.objects for split, counted in summary.splits.items()},
        "sources": {split: counted.sources for split, counted in summary.splits.items()},
        "one_piece": summary.one_piece,
        "test_from_val": summary.test_from_val,
        "shared_sources": summary.shared_sources,
        "mended": summary.mended,
        "fingerprint": summary.fingerprint,
        "impossible_here": lacking,
    }
    if args.json:
        print(json.dumps(shown, indent=2))
        return DONE
    train = summary.splits["train"].objects
    rare = ", ".join(f"{name} ({train[name]} of {sum(train.values())} in train)" for name in data.minority)
    images = ", ".join(f"{split} {count}" for split, count in shown["images"].items())
    print(f"{args.study}: fine. {config.search.trials} trials after {config.baseline.seeds} baseline seeds.")
    print(f"minority: {rare}; images: {images}")
    for note in summary.notes():
        print(note)
    for what in lacking:
        print(f"warning: {what}; run it on one that has, or on a cluster (--address)")
    return DONE


def _search(args: argparse.Namespace) -> int:
    pipeline = _pipeline()
    folder = pipeline.search(
        args.study,
        args.runs,
        cluster=pipeline.RayCluster(args.address),
        resume=args.resume,
        console=Console(stderr=args.json),
    )
    study = folder.open()
    _show_front(study, folder.minority(), args, args.runs / folder.path.name, everything=False)
    best = best_feasible(study.trials(), study.config.objectives[0])
    if best is None:
        print("no trial kept within the guards", file=sys.stderr)
        print(
            f"hint: rarecall pareto {args.runs / study.config.name} --all shows by how much", file=sys.stderr
        )
        return NOTHING_FOUND
    return DONE


def _pipeline() -> Any:
    """What trains and launches; loaded only here, so that reading results needs neither torch nor ray."""
    from search import pipeline  # noqa: PLC0415

    return pipeline


def _pareto(args: argparse.Namespace) -> int:
    if args.json and args.csv:
        raise UsageError("--json and --csv: one of them")
    folder = StudyFolder(args.study)
    _show_front(folder.open(), folder.minority(), args, args.study, everything=args.all)
    return DONE


def _show_front(
    study: Study, minority: Sequence[str], args: argparse.Namespace, where: Path, *, everything: bool
) -> None:
    baseline = study.baseline()
    found = front(study.trials(), study.config.objectives, baseline)
    if args.json:
        print(json.dumps(as_json(found, baseline, minority=minority), indent=2))
    elif getattr(args, "csv", False):
        rows = as_rows(found)
        columns = list(dict.fromkeys(column for row in rows for column in row))
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(rows)
    else:
        console = wide_console()
        console.print(pareto_table(found, baseline, study.config, everything=everything))
        for line in strategies(found, baseline, minority, everything=everything):
            console.print(line, highlight=False, soft_wrap=True)
        counted = ", ".join(f"{len(group)} {name}" for name, group in vars(found).items())
        console.print(f"{counted}. Signed: against the baseline's mean; ! breaks its guard.", highlight=False)
        if found.best:
            console.print(f"next: rarecall confirm {where}", highlight=False, soft_wrap=True)


def _confirm(args: argparse.Namespace) -> int:
    from search.cli import experiments  # noqa: PLC0415  (its statistics would slow every other command)

    return experiments.confirm(args)


def _compare(args: argparse.Namespace) -> int:
    from search.cli import experiments  # noqa: PLC0415  (as for `_confirm`)

    return experiments.compare(args)


def _export(args: argparse.Namespace) -> int:
    folder = StudyFolder(args.study)
    study = folder.open()
    trial = choose(study, args.trial)
    bundle = export_trial(folder, study, trial, args.out)
    if args.json:
        print(json.dumps({"trial": trial.number, "folder": str(bundle)}))
    else:
        said = verdicts(study).get(trial.number)
        judged = "not confirmed" if said is None else f"{said['outcome']} in {said['experiment']}"
        broken = [metric for metric, violation in trial.violations.items() if violation > 0]
        beyond = f"; it breaks its guard on {', '.join(broken)}" if broken else ""
        print(f"trial {trial.number} ({describe(trial.strategy)}), {judged}{beyond} -> {bundle}")
    return DONE
