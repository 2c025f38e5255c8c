"""`rarecall launch`: a study as a job on a cluster that somebody else runs."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from search.cli.common import DONE, FILE, Commands, add_runs, add_trust, command, path, printable
from search.record.storage.address import mirrored_runs
from spaces.errors import UsageError

if TYPE_CHECKING:
    from search.launching.wanted import Launched

PLACES = ("jobs", "ray", "slurm", "kuberay")


def add(commands: Commands) -> None:
    """`rarecall launch`."""
    parser = command(commands, "launch", "Submit a search as a job on a cluster.", FILE)
    parser.add_argument("--on", choices=PLACES, required=True, help="what runs jobs there")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write and check what would be submitted, say it, and what it should take",
    )
    parser.add_argument(
        "--address", help="for jobs: the head's dashboard, e.g. http://head:8265; default: this machine's"
    )
    parser.add_argument(
        "--cluster", type=path, help="for ray: the file of Ray's cluster launcher (default: cluster.yaml)"
    )
    add_runs(parser)
    add_trust(parser)
    parser.set_defaults(run=_launch)


def _launch(args: argparse.Namespace) -> int:
    # What reads data; loaded only here, as reading results needs neither torch nor ray.
    from search.launching import jobs, kuberay, slurm, up  # noqa: PLC0415
    from search.launching.wanted import planned, wanted  # noqa: PLC0415
    from search.pipeline.planning.saying import plan_json, plan_lines  # noqa: PLC0415

    for option, place in (("address", "jobs"), ("cluster", "ray")):
        if getattr(args, option) is not None and args.on != place:
            raise UsageError(f"--{option}: only with --on {place}, got --on {args.on}")
    asked = wanted(
        args.study,
        mirrored_runs(args.runs) or args.runs,
        Console(stderr=True),
        elsewhere=args.on != "slurm",
        running=args.on in ("jobs", "ray"),
    )
    if args.on == "jobs":
        launched = jobs.launch(asked, address=args.address, dry_run=args.dry_run)
    elif args.on == "ray":
        cluster = Path("cluster.yaml") if args.cluster is None else args.cluster
        launched = up.launch(asked, cluster=cluster.resolve(), dry_run=args.dry_run, say=_say)
    else:
        launched = {"slurm": slurm.launch, "kuberay": kuberay.launch}[args.on](asked, dry_run=args.dry_run)
    expected = planned(asked) if args.dry_run else None
    if args.json:
        shown = _as_json(launched) | {"plan": None if expected is None else plan_json(expected)}
        print(json.dumps(shown, indent=2))
        return DONE
    _show(launched)
    for line in [] if expected is None else plan_lines(expected):
        print(line)
    return DONE


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def _show(launched: "Launched") -> None:
    print(f"written: {launched.written}")
    for note in launched.notes:
        print(f"note: {note}")
    print(f"to submit it: {launched.submit}" if launched.job is None else f"submitted: {launched.job}")
    for one in launched.watch:
        print(f"watch: {one}")


def _as_json(launched: "Launched") -> dict[str, object]:
    return {
        "written": str(launched.written),
        "submit": launched.submit,
        "job": launched.job,
        "watch": launched.watch,
        "notes": launched.notes,
    }
