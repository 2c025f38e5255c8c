"""Reading a study where it lies: on the head of a Ray cluster, whose folder is not seen here."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from search.cli.common import DONE, OnHead
from spaces.errors import UsageError


def read_there(args: argparse.Namespace, head: OnHead, command: str, options: Sequence[str]) -> int:
    """Carry out a command on the head, and print what it says there.

    Args:
        args: As typed here.
        head: Where the study is.
        command: Its name.
        options: Those of its options that are flags; the given ones are passed on.

    Returns:
        The exit code of the command there.
    """
    from search.launching.there import ask  # noqa: PLC0415  (loads ray)

    typed = [
        command,
        head.folder,
        *(f"--{name}" for name in options if getattr(args, name.replace("-", "_"))),
    ]
    answer = ask(head.dashboard, head.folder, typed)
    sys.stdout.write(answer.out)
    sys.stderr.write(answer.err)
    return answer.code


def report_there(args: argparse.Namespace, head: OnHead) -> int:
    """Have the page made on the head, and write it here.

    Raises:
        UsageError: The page cannot be written here.
    """
    from search.export.page.html import check_writable  # noqa: PLC0415
    from search.launching.there import ask  # noqa: PLC0415  (loads ray)

    file = Path(Path(head.folder).name) / "report.html" if args.out is None else args.out
    if args.out is not None:
        check_writable(file)
    flags = [name for name in ("no-pictures", "anonymous") if getattr(args, name.replace("-", "_"))]
    answer = ask(
        head.dashboard, head.folder, ["report", head.folder, *(f"--{one}" for one in flags)], page=True
    )
    sys.stderr.write(answer.err)
    if answer.code != DONE:
        return answer.code
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(answer.page)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", "choose another with --out") from None
    headline = answer.out.rpartition(" -> ")[0]
    print(json.dumps({"file": str(file)}) if args.json else f"{headline} -> {file}")
    return DONE
