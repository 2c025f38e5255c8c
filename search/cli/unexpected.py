"""The last resort: what nobody foresaw is one line for the person, and a traceback in a file."""

import os
import re
import tempfile
import time
import traceback
from pathlib import Path

LONGEST = 300  # characters of a message on the screen
HINTS = {
    "libGL.so": "OpenCV lacks a system library: apt-get install libgl1 libglib2.0-0",
    "libgthread": "OpenCV lacks a system library: apt-get install libglib2.0-0",
    "MemoryError": "this machine has too little memory for the command; nothing finished is lost",
}


def report(error: BaseException, folder: Path | None) -> str:
    """Write the traceback of `error` to a file; what to tell the person.

    Args:
        error: That nobody has foreseen.
        folder: Of the study that was worked on, if there is one; else the file goes to the temporary folder.
    """
    text = "".join(traceback.format_exception(error))
    kind = type(error).__name__
    said = _on_one_line(f"{kind}: {error}" if str(error) else kind)
    line = f"rarecall: unexpected {said}; the traceback is in {_written(without_passwords(text), folder)}"
    hint = next((hint for sign, hint in HINTS.items() if sign in said), "")
    return f"{line}\nhint: {hint}" if hint else line


def without_passwords(text: str) -> str:
    """The text without what databases' addresses hide between `://` and `@`, and after `password=`.

    Example:
        >>> without_passwords("no such host: postgresql://ann:secret@db/x?password=secret")
        'no such host: postgresql://***@db/x?password=***'
    """
    return re.sub(r"(?i)(passw(?:or)?d=)[^\s&'\"]+", r"\1***", re.sub(r"://[^\n]*@", "://***@", text))


def _on_one_line(text: str) -> str:
    """Nothing that a terminal would obey, and not too long."""
    plain = "".join(char if char.isprintable() else " " for char in without_passwords(text))
    short = " ".join(plain.split())
    return short if len(short) <= LONGEST else f"{short[:LONGEST]} …"


def _written(text: str, folder: Path | None) -> str:
    """Where the text went: the study's folder, else the temporary one."""
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for where in filter(None, (folder, Path(tempfile.gettempdir()))):
        try:
            (where / name).write_text(text, errors="backslashreplace")
        except OSError:  # not writable, or full: the next may not be
            continue
        return str(where / name)
    return "no file, for none can be written"
