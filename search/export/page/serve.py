"""The page of a study as a small web server, live while the study is worked on. It only reads.

It listens on this machine alone unless told otherwise, and answers nobody without the token of its address.
"""

import hashlib
import hmac
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlsplit

from search.export.page.following import Following, following_studies, following_study
from search.export.page.html import as_html, as_json, list_as_html
from search.export.page.view import Asked, view
from search.record.folder import StudyFolder
from search.record.storage.address import named
from search.record.storage.mirror import DATABASE
from spaces.errors import RarecallError

PAUSE_S = 30.0  # between two looks at pictures and models, which take seconds each
Gather = Callable[[StudyFolder], Mapping[str, Any]]


@dataclass
class Watched:
    """A study that is shown: its page is made anew when its record has changed.

    Of a study on a storage its mirror is shown, which is followed meanwhile: no reader waits for a storage.

    Attributes:
        path: The study's folder.
        gather: Finds what the record does not hold.
    """

    path: Path
    gather: Gather
    following: Following | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: Any = None
    _view: dict[str, Any] = field(default_factory=dict)
    _more: Mapping[str, Any] = field(default_factory=dict)
    _gathering: bool = False
    _gathered: tuple[float, Any] = (-PAUSE_S, None)

    def view(self) -> dict[str, Any]:
        """What stands on the page now, by the record alone.

        Raises:
            UsageError: There is no study.
            RunError: Its record cannot be read.
        """
        with self._lock:
            now = self._state()
            if now is None or now != self._seen:
                folder = StudyFolder(self.path, offline=True)
                self._view, self._seen = view(folder, Asked(named(self.path))), now
            return self._view

    def whole_view(self) -> dict[str, Any]:
        """The same with all that was looked at beside; raises as `view`."""
        away = "" if self.following is None else self.following.ask()
        known = self.view()
        with self._lock:
            self._look_closer()
            return {**known, **self._more, "away": away}

    def _state(self) -> Any:
        """Changes when the record does; None where that cannot be told."""
        file = self.path / DATABASE
        if not file.is_file():
            return None
        known = file.stat()
        times = 0 if self.following is None else self.following.times
        return known.st_mtime_ns, known.st_size, times, StudyFolder(self.path, offline=True).being()

    def _look_closer(self) -> None:
        """Have pictures and models looked at beside, when trials have been finished since the last time."""
        when, finished = self._gathered
        now = self._view["trials"], self._view["confirmation"]
        if self._gathering or time.monotonic() < when + PAUSE_S or finished == now:
            return
        self._gathering = True
        threading.Thread(target=self._gather, args=(now,), daemon=True).start()

    def _gather(self, finished: Any) -> None:
        try:
            self._more = self.gather(StudyFolder(self.path))
        except Exception as error:  # whatever it is, who looks at the page should know why pictures lack
            why = error.message if isinstance(error, RarecallError) else f"{type(error).__name__}: {error}"
            self._more = {"data": {"names": [], "rows": [], "notes": [f"Not shown: {why}"]}}
        finally:
            self._gathered, self._gathering = (time.monotonic(), finished), False


class Dashboard(ThreadingHTTPServer):
    """Serves one study, or all of a folder.

    Args:
        path: A study's folder, or a folder of them.
        token: That an address must have.
        gather: Finds what a study's record does not hold.
        host: To listen at.
        port: To listen at; 0 for any that is free.

    Raises:
        OSError: The port is taken, or is not for us.
    """

    daemon_threads = True

    def __init__(self, path: Path, token: str, gather: Gather, *, host: str, port: int) -> None:
        super().__init__((host, port), Handler)
        self.path, self.token, self._gather = path.resolve(), token, gather
        self._studies: dict[Path, Watched] = {}
        self._following = following_studies(self.path)

    @property
    def address(self) -> str:
        """To be opened in a browser."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{host}:{port}/?token={self.token}"

    def watched(self, path: Path) -> Watched:
        """A study, looked after from now on."""
        if path not in self._studies:
            self._studies[path] = Watched(path, self._gather, following_study(path))
        return self._studies[path]

    def study(self, name: str | None) -> Watched | None:
        """The one that is served, or of a folder that of a name; None if there is none."""
        if name is None:
            return self.watched(self.path) if _is_study(self.path) else None
        path = self.path / name
        # A name alone: what leads elsewhere is none.
        if name in ("", ".", "..") or path.name != name or not _is_study(path):
            return None
        return self.watched(path)

    def away(self) -> str:
        """What is to be said of a folder of studies that cannot be brought from its storage."""
        return "" if self._following is None else self._following.ask()

    def studies(self) -> list[str]:
        """Names of those of a folder."""
        return sorted(one.name for one in self.path.iterdir() if _is_study(one))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that leaves before the end is nothing to tell."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _is_study(path: Path) -> bool:
    try:
        return (path / "study.yaml").is_file()
    except (OSError, ValueError):  # no name that a file can have, or none of ours
        return False


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Dashboard

    def do_GET(self) -> None:
        """`/`, `/data.json`, and for a folder `/study/NAME/…`."""
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._send(400, "text/plain", "no address\n")
            return
        token = parse_qs(url.query).get("token", [""])[0]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._send(403, "text/plain", "the address lacks its token\n")
            return
        try:
            self._answer(url.path, token)
        except (RarecallError, OSError) as error:
            if isinstance(error, ConnectionError):
                raise
            self._send(503, "text/plain", f"{error}\n")

    def _answer(self, place: str, token: str) -> None:
        name, page = None, place
        if place.startswith("/study/"):
            quoted, _, page = place.removeprefix("/study/").partition("/")
            name, page = os.fsdecode(unquote_to_bytes(quoted)), f"/{page}"
        study = self.server.study(name)
        if study is None and name is None and page == "/":
            self._send(200, "text/html", self._list(token))
        elif study is None or page not in ("/", "/data.json"):
            self._send(404, "text/plain", "no such study\n")
        elif page == "/":
            self._send(200, "text/html", as_html(study.whole_view(), live=True))
        else:
            self._send(200, "application/json", as_json(study.whole_view()))

    def _list(self, token: str) -> str:
        """The page of a folder of studies."""
        said, away = {}, self.server.away()
        for name in self.server.studies():
            link = f"/study/{quote(os.fsencode(name))}/?token={quote(token)}"
            try:
                known = self.server.watched(self.server.path / name).view()["answer"]["headline"]
            except RarecallError as error:
                known = error.message
            said[os.fsencode(name).decode(errors="replace")] = link, known
        return list_as_html(said, away)

    def _send(self, status: int, kind: str, text: str) -> None:
        content = text.encode(errors="replace")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if status == 200 and self.headers.get("If-None-Match") == tag:
            status, content = 304, b""
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "ETag": tag,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests would hide what the terminal says, and name the token."""
