"""A command that reads a study, carried out on the head of a Ray cluster; what it says comes back."""

import base64
import secrets
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from search.launching.client import asked_address, jobs_at
from spaces.errors import RunError

# Its arguments: a mark, a page's name or nothing, a command. Each line of what comes back begins with the
# mark and what it is of, as Ray writes into the same log whenever it likes.
SCRIPT = """
mark=$1 page=$2 kept=$(mktemp -d); shift 2
trap 'rm -rf "$kept"' EXIT
if [ -n "$page" ]; then set -- "$@" --out "$kept/$page"; fi
python -m rarecall "$@" >"$kept/out" 2>"$kept/err"
code=$?
for name in out err $page; do
  if [ -f "$kept/$name" ]; then base64 "$kept/$name" | sed "s/^/$mark:$name:/"; fi
done
echo "$mark:end:"
exit $code
"""
PAGE = "report.html"
NONE = "No module named rarecall"


@dataclass(frozen=True)
class Answer:
    """What a command has said there.

    Attributes:
        code: Its exit code.
        out: What it printed.
        err: What it printed as errors.
        page: That it has written; empty without.
    """

    code: int
    out: str
    err: str
    page: bytes


def ask(address: str, folder: str, typed: Sequence[str], *, page: bool = False) -> Answer:
    """Carry out a command on the head.

    Args:
        address: Of the cluster's dashboard.
        folder: Of the study, as the head sees it.
        typed: The command and its arguments, the folder among them.
        page: Whether it writes a page, which is to come back.

    Raises:
        UsageError: `ray[default]` is missing here.
        RunError: The cluster does not answer, refuses the token or the job, or has no rarecall.
    """
    mark = f"rarecall-{secrets.token_hex(8)}"
    words = ["sh", "-c", SCRIPT, "sh", mark, PAGE if page else "", *typed]
    columns = shutil.get_terminal_size().columns
    code, said = jobs_at(asked_address(address)).answer(f"COLUMNS={columns} {shlex.join(words)}", folder)
    found: dict[str, bytes] = {}
    try:
        for line in said.splitlines():
            if line.startswith(f"{mark}:"):
                _, name, part = line.split(":", 2)
                found[name] = found.get(name, b"") + base64.b64decode(part, validate=True)
    except ValueError:
        raise RunError(f"what {address} said has not come whole", "once more, or look there") from None
    if "end" not in found:
        raise RunError(
            f"the Ray at {address} did not carry it out:\n{said.strip()}", "`ray job list` asks it, too"
        )
    out, err = (found.get(name, b"").decode(errors="replace") for name in ("out", "err"))
    if NONE in err:
        raise RunError(
            f"the head at {address} has no rarecall",
            "install it there, or read the study where its folder is seen, or on its storage",
        )
    return Answer(code, out, err, found.get(PAGE, b""))
