"""What all commands share: exit codes, arguments, and the doors to what loads slowly."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from search.cluster.stopping import Stop
from search.cluster.watch import end_descendants
from spaces.errors import UsageError

if TYPE_CHECKING:
    from search.work.protocol import Cluster

DONE, NOTHING_FOUND, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
FILE, FOLDER = "a study file (yaml)", "a study's folder, e.g. runs/digits"


def command(commands: Commands, name: str, text: str, study: str | None) -> argparse.ArgumentParser:
    """A new command.

    Args:
        commands: Where it goes.
        name: As typed.
        text: What it does.
        study: What its argument STUDY is; None for a command without one.
    """
    parser = commands.add_parser(name, help=text, description=text)
    if study is not None:
        parser.add_argument("study", type=Path, metavar="STUDY", help=study)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def add_cluster(parser: argparse.ArgumentParser, resume: str) -> None:
    """Where it runs, and whether it goes on; `resume` says with what."""
    parser.add_argument("--address", help="a running Ray cluster, e.g. auto; default: a local one")
    parser.add_argument(
        "--here", action="store_true", help="without Ray, one run at a time in this process: for a debugger"
    )
    parser.add_argument("--resume", action="store_true", help=resume)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Where studies are."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of all studies (default: runs)"
    )


def cluster_of(args: argparse.Namespace) -> "Cluster":
    """What the arguments of `add_cluster` mean.

    Loaded only here, as reading results needs neither torch nor ray.

    Raises:
        UsageError: They contradict each other.
    """
    if args.here and args.address is not None:
        raise UsageError("--here and --address: one of them")
    if args.here:
        from search.cluster.here import Here  # noqa: PLC0415

        return Here(stop=Stop(_answer, _end_at_once))
    from search.cluster.launch import RayCluster  # noqa: PLC0415

    return RayCluster(args.address, stop=Stop(_answer, _end_at_once))


def _answer() -> None:
    print("\nstopping; Ctrl-C again ends at once", file=sys.stderr, flush=True)


def _end_at_once() -> None:
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # the live screen has hidden the cursor
    print("\nended at once; --resume goes on", file=sys.stderr, flush=True)
    end_descendants()
    os._exit(INTERRUPTED)  # the main thread may be in what never comes back


def one_format(args: argparse.Namespace) -> None:
    """Refuse two formats at once.

    Raises:
        UsageError: Both `--json` and `--csv`.
    """
    if args.json and args.csv:
        raise UsageError("--json and --csv: one of them")
