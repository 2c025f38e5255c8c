"""The `rarecall` command: arguments in, a use case, an exit code out.

Exit codes: 0 done; 1 finished, but nothing is feasible or nothing accepted; 2 the person's error; 3 a
run-time or cluster failure; 130 interrupted.
"""

import argparse
import logging
import select
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from search.cli import compare, confirm, images, search
from search.cli.after import export, report, track
from search.cli.before import check, doctor, launch
from search.cli.common import DONE, FAILED, INTERRUPTED, USAGE, OnHead, Parser, printable
from search.cli.unexpected import report as report_unexpected
from search.cluster.stopping import take_as_ctrl_c
from search.record.folder import StudyFolder
from search.record.storage.address import named
from search.request.reading import load_config
from search.show.common import ReaderLeft, print_nowhere
from spaces.errors import Interrupted, RarecallError, UsageError
from trainables.contract.trust import trusting_weights


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal without our signs shows `?` for them
            stream.reconfigure(errors="replace")
    args = argparse.Namespace(interrupted="")  # of a command that is not known yet
    try:
        _parser().parse_args(argv, args)
        take_as_ctrl_c()
        if isinstance(head := getattr(args, "study", None), OnHead):
            return _from_head(args, head)
        if "study" in args:
            StudyFolder(args.study).bring()  # of a study on a storage
        with trusting_weights(args.trust_weights):
            code = int(args.run(args))
        sys.stdout.flush()  # or a reader that has left is noticed when nobody can be told
        return code
    except Interrupted as stop:
        print(f"\ninterrupted; nothing finished is lost. Go on with:\n  {stop.hint}", file=sys.stderr)
        return INTERRUPTED
    except RarecallError as error:
        print(f"rarecall: {printable(str(error))}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        print(f"\ninterrupted{_left(args)}", file=sys.stderr)
        return INTERRUPTED
    except ReaderLeft:
        return DONE
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            print_nowhere(sys.stdout)
            return DONE
        print(report_unexpected(error, _study_folder(args)), file=sys.stderr)
        return FAILED


def _from_head(args: argparse.Namespace, head: OnHead) -> int:
    if args.from_head is None:
        raise UsageError(
            f"{head.dashboard}: a cluster's head is asked by status, pareto and report alone",
            "type this where the study's folder is seen, or keep studies on a storage: --runs s3://…",
        )
    return int(args.from_head(args, head))


def _left(args: argparse.Namespace) -> str:
    """What Ctrl-C has left of a command that did not say so itself."""
    if args.interrupted is not None:
        return f"; {args.interrupted}" if args.interrupted else ""
    folder = _study_folder(args)
    return " before anything ran" if folder is None else f"; where it stands: rarecall status {named(folder)}"


def _reader_left() -> bool:
    """Whether nobody reads what is printed any more, as after `| head`."""
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), select.POLLOUT)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in stdout.poll(0))


def _study_folder(args: argparse.Namespace) -> Path | None:
    """Folder of the study that the command was to work on, if there is one."""
    folder, runs = getattr(args, "study", None), getattr(args, "runs", None)
    if folder is None or isinstance(folder, OnHead):
        return None
    try:
        if runs is not None and not folder.is_dir():
            folder = runs / load_config(folder).name
        return folder if StudyFolder(folder).study_yaml.is_file() else None
    except Exception:  # what is wrong with it may be what is to be reported, once
        return None


def _parser() -> Parser:
    parser = Parser(prog="rarecall", description="Find what really lifts a rare class.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check.add_strategies(commands)
    check.add(commands)
    doctor.add(commands)
    images.add_tile(commands)
    search.add(commands)
    launch.add(commands)
    search.add_status(commands)
    search.add_stop(commands)
    search.add_pareto(commands)
    confirm.add(commands)
    confirm.add_fuse(commands)
    compare.add(commands)
    report.add(commands)
    report.add_dashboard(commands)
    export.add(commands)
    images.add_predict(commands)
    track.add(commands)
    return parser
