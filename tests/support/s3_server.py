"""A real S3 server for tests: moto's, in an environment of its own as it clashes with the lock."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileSystem

SERVER = os.environ.get("RARECALL_MOTO", "")
WHY_NOT = "" if SERVER else "RARECALL_MOTO names no moto_server of an environment of its own"
KEYS = {
    "AWS_ACCESS_KEY_ID": "not-a-secret",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret-either",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class S3:
    """A running one, with the bucket `bucket`.

    Attributes:
        process: Its own. One that is sent SIGSTOP accepts connections and answers nothing.
        port: At the loopback.
    """

    process: subprocess.Popen[bytes]
    port: int

    def address(self, path: str) -> str:
        return f"s3://{path}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    @contextmanager
    def away(self) -> Iterator[None]:
        """Within the context it answers nobody."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """One for as long as the context lasts; `folder` gets its log. It forgets all in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "moto.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.2)
        server = S3(process, port)
        system, _ = FileSystem.from_uri(f"{server.address('bucket')}&allow_bucket_creation=true")
        system.create_dir("bucket")
        yield server
    finally:
        process.kill()
        process.wait()
