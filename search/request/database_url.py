"""The address of a study's database as a person writes it, and its password, which is kept nowhere.

`kind://user:password@host:port/name?options`, as SQLAlchemy reads it. Text only: connects to nothing.
"""

import re

_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):([^@\n]*)@")  # user, password
_SECRET = re.compile(r"[?&][^=&]*(pass|pwd|secret|odbc_connect)[^=&]*=", re.IGNORECASE)


def without_password(url: str) -> str:
    """The address without its password, which is how it is kept and shown."""
    return _PASSWORD.sub(lambda found: f"{found[1]}@" if found[1] else "", url, count=1)


def hidden(text: str) -> str:
    """A text, e.g. of an error, with `***` for the password of every address in it.

    Example:
        >>> hidden("line 3: study_db: postgresql://me:secret@host/db")
        'line 3: study_db: postgresql://me:***@host/db'
    """
    return _PASSWORD.sub(r"\1:***@", text)


def check_address(url: str) -> None:
    """Refuse what could not be kept without its password.

    Raises:
        ValueError: It is no address, or says its password in a way that cannot be told from the rest.
    """
    kind, found, rest = url.partition("://")
    if not found or not re.fullmatch(r"\w+(\+\w+)?", kind):
        raise ValueError("not the address of a database, as postgresql://me@host/name is one")
    if _SECRET.search(rest):
        raise ValueError("a password belongs before the host, as in postgresql://me:password@host/name")
    kept = without_password(url)
    if kept != url and "@" in kept.partition("?")[0].partition("://")[2].partition("@")[2]:
        raise ValueError("write an @ that is part of a password as %40")
