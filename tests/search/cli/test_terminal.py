"""The command in a real terminal: how wide what it prints is, and what it breaks."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

RARECALL = Path(sys.executable).with_name("rarecall")


def test_in_a_terminal_of_80_columns_nothing_is_wider_and_no_word_broken(confirmed_study: Path) -> None:
    for command in (["pareto", "--all", "--plot"], ["status"], ["confirm"]):
        shown = in_terminal([command[0], str(confirmed_study), *command[1:]], columns=80)
        typed = [line for line in shown.splitlines() if "rarecall " in line]  # commands stay whole
        rest = [line for line in shown.splitlines() if line not in typed]
        assert max(map(len, rest)) <= 80, shown
        assert str(confirmed_study) in shown
        piped = subprocess.run([RARECALL, command[0], confirmed_study, *command[1:]], capture_output=True)
        sentences = [line for line in piped.stdout.decode().splitlines() if line[:1] not in "│┃┏┡└├|"]
        assert {word for line in sentences[1:] for word in line.split()} <= set(shown.split())


def in_terminal(args: list[str], columns: int) -> str:
    """What a command shows in a terminal of so many columns, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen([RARECALL, *args], stdin=theirs, stdout=theirs, stderr=theirs) as command:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # at its end
            while part := os.read(ours, 65536):
                said += part
    os.close(ours)
    assert command.returncode in {0, 1}, said
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).replace("\r", "")
