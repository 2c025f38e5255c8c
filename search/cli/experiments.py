"""`rarecall confirm` and `rarecall compare`: arguments in, a use case, its result printed, an exit code."""

import argparse
import csv
import json
import sys
from typing import Any

from rich.console import Console

from search.judging.confirmation import Asked, latest, ledger
from search.record.folder import StudyFolder
from search.show.comparison import as_json, as_rows, as_table
from search.show.confirmation import confirmation_json, ledger_sentence, sentences, verdict_table
from search.show.front import wide_console
from spaces.errors import UsageError

DONE, NOTHING_ACCEPTED = 0, 1


def confirm(args: argparse.Namespace) -> int:
    """Show the last confirmation, or carry one out; 1 if nothing was accepted."""
    folder = StudyFolder(args.study)
    study = folder.open()
    confirmation = latest(study)
    asked = Asked(
        trials=tuple(args.trial),
        strategies=tuple(args.strategy),
        seeds=args.seeds,
        baseline_seeds=args.baseline_seeds,
        one_look=args.one_look,
    )
    if args.fresh and args.resume:
        raise UsageError("--fresh and --resume: one of them")
    if confirmation is not None and asked != Asked() and not args.fresh:
        raise UsageError(
            f"{args.study} has been planned for {confirmation.experiment} already",
            "add --fresh for another confirmation, on seeds of its own; without options you see this one",
        )
    if confirmation is None or not confirmation.finished or args.fresh:
        pipeline = _pipeline()
        confirmation = pipeline.confirm(
            args.study,
            asked,
            cluster=pipeline.RayCluster(args.address),
            resume=args.resume,
            fresh=args.fresh,
            console=Console(stderr=args.json),
        )
        study = folder.open()
    uses = ledger(study)
    if args.json:
        print(json.dumps(confirmation_json(confirmation, uses), indent=2))
    else:
        console = wide_console()
        console.print(verdict_table(confirmation))
        for line in [*sentences(confirmation, str(args.study)), ledger_sentence(uses)]:
            console.print(line, highlight=False, soft_wrap=True)
    return DONE if confirmation.looks[-1].accepted else NOTHING_ACCEPTED


def compare(args: argparse.Namespace) -> int:
    """Carry out a comparison, or show it if the record has it."""
    if args.json and args.csv:
        raise UsageError("--json and --csv: one of them")
    pipeline = _pipeline()
    folder, comparison = pipeline.compare_strategies(
        args.study,
        args.runs,
        cluster=pipeline.RayCluster(args.address),
        resume=args.resume,
        console=Console(stderr=args.json or args.csv),
    )
    if args.json:
        print(json.dumps(as_json(comparison), indent=2))
    elif args.csv:
        rows = as_rows(comparison)
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    else:
        console = wide_console()
        console.print(as_table(comparison.of(pipeline.shown_metrics(folder.config()))))
        names = "compare.csv (every metric) and compare.svg"
        console.print(f"also in {pipeline.shown(folder.path)}: {names}", highlight=False)
    return DONE


def _pipeline() -> Any:
    """What trains and launches; loaded only here, so that showing a verdict needs neither torch nor ray."""
    from search import pipeline  # noqa: PLC0415

    return pipeline
