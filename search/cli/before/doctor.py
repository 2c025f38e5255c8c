"""`rarecall doctor`: whether a cluster, or this machine, is fit for a search, and the mend if not."""

import argparse
import json
from dataclasses import asdict

from rich.table import Table

from search.cli.common import DONE, NOTHING_FOUND, Commands, add_runs, command
from search.cluster.health.node import Check
from search.record.storage.address import mirrored_runs
from search.show.common import wide_console
from search.show.fitting import show

TEXT = "What would hinder a search on this machine or cluster, and how to mend it; exits 1 for a problem."
STYLES = {"ok": "", "warning": "yellow", "problem": "bold red"}


def add(commands: Commands) -> None:
    """`rarecall doctor`."""
    parser = command(commands, "doctor", TEXT, None, interrupted="nothing was changed")
    parser.add_argument("--address", help="a running Ray cluster, e.g. auto; default: this machine alone")
    add_runs(parser)
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from search.cluster.examining import examine  # noqa: PLC0415  (as in `common.cluster_of`)

    checks = examine(args.address, mirrored_runs(args.runs) or args.runs.resolve())
    if args.json:
        print(json.dumps([asdict(one) for one in checks], indent=2))
    else:
        show(wide_console(), _table(checks))
    return NOTHING_FOUND if any(one.verdict == "problem" for one in checks) else DONE


def _table(checks: list[Check]) -> Table:
    table = Table()
    for title in ("check", "", "found"):
        table.add_column(title)
    for one in checks:
        said = f"{one.said}\nmend: {one.mend}" if one.mend else one.said
        table.add_row(one.name, one.verdict, said, style=STYLES[one.verdict])
    return table
