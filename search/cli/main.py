"""The `rarecall` command: arguments in, a use case, an exit code out.

Exit codes: 0 done; 1 finished, but nothing is feasible or nothing accepted; 2 the person's error; 3 a
run-time or cluster failure; 130 interrupted.
"""

import logging
import sys
from collections.abc import Sequence

from search.cli import check, compare, confirm, export, search, status
from search.cli.common import DONE, FAILED, INTERRUPTED, USAGE, Parser, printable
from spaces.errors import Interrupted, RarecallError, UsageError


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
        print(f"rarecall: {printable(str(error))}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        print("\ninterrupted before anything ran", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader (`| head`) has left; Python would complain while shutting down
        return DONE


def _parser() -> Parser:
    parser = Parser(prog="rarecall", description="Find what really lifts a rare class.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check.add_strategies(commands)
    check.add(commands)
    search.add(commands)
    status.add(commands)
    search.add_pareto(commands)
    confirm.add(commands)
    compare.add(commands)
    export.add(commands)
    return parser
