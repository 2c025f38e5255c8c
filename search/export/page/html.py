"""The page as one file: nothing else is loaded, so it opens from a disk and can be sent."""

import html
import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from spaces.errors import UsageError

_FIELD = re.compile(r"\{\{(\w+)\}\}")


def as_html(view: dict[str, Any], *, live: bool = False) -> str:
    """The page of a study.

    Args:
        view: What stands on it.
        live: Whether it asks its server for news.
    """
    filled = {
        "title": html.escape(f"{view['title']} · rarecall"),
        "live": str(live).lower(),
        "view": as_json(view).replace("<", "\\u003c"),  # no text of a user's can end the script
        "css": _asset("page.css"),
        "charts": _asset("charts.js"),
        "page": _asset("page.js"),
    }
    return _filled("page.html", filled)


def list_as_html(studies: Mapping[str, tuple[str, str]], away: str = "") -> str:
    """A page that lists studies.

    Args:
        studies: Name -> address of its page, and what is said of it.
        away: Why it may be old, or nothing.
    """
    rows = [
        f'<li><a href="{html.escape(link)}">{html.escape(name)}</a>: {html.escape(said)}</li>'
        for name, (link, said) in studies.items()
    ]
    note = f'<p class="away">{html.escape(away)}</p>' if away else ""
    listed = "".join(rows) or "<li>none yet</li>"
    return _filled("studies.html", {"css": _asset("page.css"), "away": note, "studies": listed})


def _filled(name: str, values: Mapping[str, str]) -> str:
    """An asset with its fields filled; what fills them is not looked at again."""
    return _FIELD.sub(lambda found: values[found[1]], _asset(name))


def _asset(name: str) -> str:
    return (files("search.export.page") / "assets" / name).read_text()


def as_json(view: dict[str, Any]) -> str:
    """What the page reads: plain JSON, in which an endless or unknown number is null."""
    return json.dumps(_finite(view), separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def check_writable(file: Path) -> None:
    """Refuse what cannot be a page, before it is made.

    Raises:
        UsageError: It is a folder, a device or a link, its folder is not there or not for us to write in, or
            its name is not that of a page.
    """
    hint = "name a new file, e.g. --out report.html"
    if file.suffix not in (".html", ".htm"):
        raise UsageError(f"--out: a page ends in .html, got {file}", hint)
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise UsageError(f"--out: {file} is there, and no page", hint)
    folder = file.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--out: no such folder: {folder}", hint)
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--out: {folder} cannot be written to", hint)


def write_page(view: dict[str, Any], file: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        UsageError: It cannot be written.
    """
    partial = file.with_name(f".{file.stem[:60]}.{os.getpid()}.tmp")
    try:
        partial.write_text(as_html(view), encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"cannot write {file}: {why}", "choose another with --out") from None
    finally:
        partial.unlink(missing_ok=True)
