"""A PostgreSQL server of one test's own, that can be stopped as a machine stops it, and started again."""

import gc
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("initdb", "postgres", "pg_isready")
USER, PASSWORD = "rarecall", "of-a-test"


class Postgres:
    """Skips the test where there is none; `root` is a folder to make, in one that all may enter."""

    def __init__(self, root: Path) -> None:
        # Debian leaves them off the path.
        places = [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
        found = [shutil.which(name, path=os.pathsep.join(places)) for name in PROGRAMS]
        if None in found:
            pytest.skip("no PostgreSQL here")
        self._initdb, self._server, self._ready = map(str, found)
        self._root, self._data = root, root / "data"
        # It does not run as root.
        self._as = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        root.mkdir()
        shutil.chown(root, self._as)
        secret = root / "secret"
        secret.write_text(PASSWORD)
        shutil.chown(secret, self._as)
        made = [self._initdb, "-D", str(self._data), "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256"]
        subprocess.run(made, check=True, capture_output=True, user=self._as, cwd=root)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def address(self) -> str:
        """With the password, of its one database."""
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Until it answers."""
        options = ["-p", str(self.port), "-k", str(self._root), "-c", "listen_addresses=127.0.0.1"]
        with (self._root / "log").open("a") as log:
            self._process = subprocess.Popen(
                [self._server, "-D", str(self._data), *options],
                user=self._as,
                cwd=self._root,
                stdout=log,
                stderr=log,
            )
        ready = [self._ready, "-h", "127.0.0.1", "-p", str(self.port), "-q", "-t", "30"]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, (self._root / "log").read_text()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once, leaving all that is open; it recovers when it starts."""
        self._process.send_signal(how)
        self._process.wait(30)


@contextmanager
def running() -> Iterator[Postgres]:
    """One that ends with the context."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # pytest's own folders are entered by their owner alone
        server = Postgres(Path(folder) / "postgres")
        try:
            yield server
        finally:
            server.stop()
            with warnings.catch_warnings(action="ignore"):  # psycopg wants each connection closed by hand
                gc.collect()
