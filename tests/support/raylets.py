"""A Ray cluster of raylets that are processes of their own, each with an environment of its own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).with_name("ray"))
STARTED_S = 120.0


@dataclass
class Raylets:
    """A head, and what joins it.

    Attributes:
        address: Of the head.
        root: Short, as the names of Ray's sockets begin with it.
        environment: Of each `ray start`, beside this process's.
    """

    address: str
    root: Path
    environment: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, *options: str, environment: Mapping[str, str] | None = None, before: Sequence[str] = ()
    ) -> psutil.Process:
        """One `ray start`; its raylet.

        Args:
            options: More of its options.
            environment: Of this node alone.
            before: What stands before it, e.g. unshare.
        """
        sizes = ("--num-cpus=1", "--object-store-memory=100000000")
        log = self.root / f"{len(self.started)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*before, RAY, "start", "--block", *sizes, *options],
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        until = time.monotonic() + STARTED_S
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        return next(one for one in family if one.name() == "raylet")

    def stop(self) -> None:
        """Kill all of it."""
        for process in reversed(self.started):
            family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            for one in [*family, process]:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def raylets(environment: Mapping[str, str], *options: str, before: Sequence[str] = ()) -> Iterator[Raylets]:
    """A head with one CPU and `options`, for as long as the context lasts; `before` as of `Raylets.start`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = Raylets(f"127.0.0.1:{port}", Path(tempfile.mkdtemp(prefix="ray", dir="/tmp")), environment)
    try:
        there = (
            "--head",
            f"--port={port}",
            f"--temp-dir={cluster.root / 'ray'}",
            "--include-dashboard=false",
        )
        cluster.start(*there, *options, before=before)
        yield cluster
    finally:
        cluster.stop()
