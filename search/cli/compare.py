"""`rarecall compare`: carry out a comparison, or show it if the record has it."""

import argparse
import json
import sys

from search.cli.common import (
    DONE,
    FILE,
    FOLDER,
    Commands,
    add_cluster,
    add_runs,
    cluster_of,
    command,
    one_format,
)
from search.judging.confirmation import requirements
from search.show.common import progress_console, wide_console, write_csv
from search.show.comparison import as_json, as_rows, as_table
from search.show.fitting import say, show


def add(commands: Commands) -> None:
    """`rarecall compare`."""
    text = "Named strategies side by side, exploratory."
    parser = command(commands, "compare", text, f"{FILE}, or {FOLDER}")
    add_cluster(parser, "go on with an interrupted comparison")
    add_runs(parser)
    parser.add_argument("--csv", action="store_true", help="print one line per arm and metric as CSV")
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    one_format(args)

    from search.pipeline.comparing import compare_strategies  # noqa: PLC0415  (as in `common.cluster_of`)

    found, comparison = compare_strategies(
        args.study,
        args.runs,
        cluster=cluster_of(args),
        resume=args.resume,
        console=progress_console(stderr=args.json or args.csv),
    )
    if args.json:
        print(json.dumps(as_json(comparison), indent=2))
    elif args.csv:
        write_csv(as_rows(comparison), sys.stdout)
    else:
        console = wide_console()
        shown = comparison.with_whole_images(found.config.shown_metrics)
        asked = requirements(found.config, whole_images=bool(found.summary.whole_images))
        show(console, as_table(shown, [one for one in asked if one.metric in shown.metrics]))
        names = "compare.csv (every metric) and compare.svg"
        say(console, f"also in {found.where}: {names}")
    return DONE
