"""What all commands share: exit codes, arguments, and the doors to what loads slowly."""

import argparse
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias
from urllib.parse import unquote, urlsplit

from search.cluster.stopping import Stop
from search.cluster.watch import end_descendants
from search.record.storage.address import runs_folder, study_folder
from spaces.errors import UsageError
from trainables.contract.trust import FLAG
from trainables.storage.address import is_address

if TYPE_CHECKING:
    from search.work.protocol import Cluster

LONGEST_LINE = 300  # characters of a message
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

DONE, NOTHING_FOUND, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
FILE, FOLDER = "a study file (yaml)", "a study's folder, e.g. runs/digits"
ANYWHERE = f"{FOLDER}, or on a Ray cluster's head, e.g. http://head:8265/mnt/runs/digits"


class Parser(argparse.ArgumentParser):
    """Quotes what it does not understand as `printable`."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave with exit code 2."""
        super().error(printable(message))


def path(text: str) -> Path:
    """An argument that names a file or a folder, whether it exists or not.

    Raises:
        argparse.ArgumentTypeError: No path on this machine can be so.
    """
    if is_address(text):
        raise argparse.ArgumentTypeError(f"a path of this machine, and no address of a storage: {text}")
    try:
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # too long; a NUL within
        raise argparse.ArgumentTypeError(f"no path: {error}") from None
    return Path(text)


@dataclass(frozen=True)
class OnHead:
    """A study's folder on the head of a Ray cluster.

    Attributes:
        dashboard: Address of the head's, `http://head:8265`.
        folder: As the head sees it.
    """

    dashboard: str
    folder: str


def study_path(text: str) -> Path | OnHead:
    """An argument that names a study's folder: a path, the address of one on a storage, or on a head.

    Raises:
        argparse.ArgumentTypeError: It can be none of them.
        UsageError: It is the address of a storage, and none that can be used.
        RunError: The cache, which mirrors a storage, cannot be written.
    """
    if text.startswith(("http://", "https://")):
        parts = urlsplit(text)
        if not parts.path.strip("/"):
            raise argparse.ArgumentTypeError(
                f"the study's folder is missing: e.g. {text.rstrip('/')}/mnt/runs/x"
            )
        return OnHead(f"{parts.scheme}://{parts.netloc}", unquote(parts.path.rstrip("/")))
    return study_folder(text) if is_address(text) else path(text)


def runs_path(text: str) -> Path:
    """Likewise, of the folder of all studies."""
    return runs_folder(text) if is_address(text) else path(text)


def command(
    commands: Commands, name: str, text: str, study: str | None, *, interrupted: str = ""
) -> argparse.ArgumentParser:
    """A new command.

    Args:
        commands: Where it goes.
        name: As typed.
        text: What it does.
        study: What its argument STUDY is; None for a command without one.
        interrupted: What is left of it after Ctrl-C, if there is something to say.
    """
    parser = commands.add_parser(name, help=text, description=text)
    if study is not None:
        parser.add_argument("study", type=study_path, metavar="STUDY", help=study)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(trust_weights=False, interrupted=interrupted, from_head=None)
    return parser


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Whether weights may run code."""
    parser.add_argument(
        FLAG,
        action="store_true",
        help="load pickled weights that can run code; not stored: give it with each command",
    )


def add_cluster(parser: argparse.ArgumentParser, resume: str) -> None:
    """Where it runs, and whether it goes on; `resume` says with what."""
    parser.add_argument("--address", help="a running Ray cluster, e.g. auto; default: a local one")
    parser.add_argument(
        "--here", action="store_true", help="without Ray, one run at a time in this process: for a debugger"
    )
    parser.add_argument("--resume", action="store_true", help=resume)
    parser.set_defaults(interrupted=None)  # there may be a study that can be gone on with
    add_trust(parser)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Where studies are."""
    parser.add_argument(
        "--runs",
        type=runs_path,
        default=Path("runs"),
        help="folder of all studies (default: runs), or e.g. s3://bucket/runs",
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

    return RayCluster(args.address, stop=Stop(_answer, _end_at_once), say=_warn)


def _warn(line: str) -> None:
    print(f"warning: {printable(line)}", file=sys.stderr, flush=True)


def _answer() -> None:
    print("\nstopping; Ctrl-C again ends at once", file=sys.stderr, flush=True)


def _end_at_once() -> None:
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # the live screen has hidden the cursor
    print("\nended at once; --resume goes on", file=sys.stderr, flush=True)
    end_descendants()
    os._exit(INTERRUPTED)  # the main thread may be in what never comes back


def printable(text: str) -> str:
    r"""A message that quotes what somebody wrote: nothing steers the terminal, a long line lacks its middle.

    Example:
        >>> print(printable("no class '\x1b[31m'"))
        no class '\x1b[31m'
    """
    lines = [_CONTROL.sub(lambda found: repr(found.group())[1:-1], line) for line in text.split("\n")]
    return "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:180]} … {line[-60:]}" for line in lines)


def one_format(args: argparse.Namespace) -> None:
    """Refuse two formats at once.

    Raises:
        UsageError: Both `--json` and `--csv`.
    """
    if args.json and args.csv:
        raise UsageError("--json and --csv: one of them")
