"""A Ray that takes jobs and has no rarecall, for tests.

It wants a Python that has `ray[default]` and what rarecall depends on: `RARECALL_JOBS_PYTHON` names it.
"""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raylets import raylets

PYTHON = os.environ.get("RARECALL_JOBS_PYTHON", "")
WHY_NOT = "" if PYTHON else "RARECALL_JOBS_PYTHON names no Python that has ray[default]"


@dataclass(frozen=True)
class JobHead:
    """A running one.

    Attributes:
        address: Of its dashboard.
        token: That it wants.
        environment: Of who may use it.
    """

    address: str
    token: str
    environment: Mapping[str, str]

    def typed(
        self, module: str, *arguments: str, at: Path, **changes: str
    ) -> "subprocess.CompletedProcess[str]":
        """What a Python that has `ray[default]` does with a module, e.g. rarecall.

        Args:
            module: Its name.
            arguments: Of the command.
            at: Where it is typed.
            changes: Of the environment; empty for a variable that is not set.
        """
        env = {name: value for name, value in {**os.environ, **self.environment, **changes}.items() if value}
        command = [PYTHON, "-m", module, *arguments]
        return subprocess.run(
            command, cwd=at, env=env, capture_output=True, text=True, timeout=120, check=False
        )


@contextmanager
def job_head(folder: Path) -> Iterator[JobHead]:
    """One with two CPUs that wants a token, until the context ends."""
    token, path = "a-token-of-a-test-0123456789abcdef", folder / "token"
    path.write_text(token)
    path.chmod(0o600)
    there = {
        "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(path),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--include-dashboard=true", f"--dashboard-port={port}", "--num-cpus=2")
    with raylets(there, *options, before=(PYTHON,)):
        yield JobHead(f"http://127.0.0.1:{port}", token, there)
