import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_detector import FOCAL_ALPHA_WEIGHTED, tiny_spec
from trials import RUN
from ultralytics.utils import SETTINGS

from trainables.contract.node import cache_folder
from trainables.contract.trial import OUTCOMES, TrialReport

# Python's own record of what a process asks of the network: Ultralytics swallows the errors of it.
GUARD = """
import os, socket, sys

def guard(event, args):
    asked = event in {"socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "http.client.connect"}
    local = event in {"socket.connect", "socket.sendto"} and args[0].family == socket.AF_UNIX
    if asked or (event in {"socket.connect", "socket.sendto"} and not local):
        with open(os.environ["ASKED"], "a") as record:
            record.write(f"{event} {args}\\n")
        raise PermissionError(f"{event}: no network in this test")

sys.addaudithook(guard)
"""


def python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


def test_the_guard_sees_what_asks_the_network(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    ask = "import contextlib, urllib.request\nwith contextlib.suppress(OSError): urllib.request.urlopen('http://x.invalid')"
    python(ask, PYTHONPATH=str(tmp_path), ASKED=str(tmp_path / "asked"))
    assert "urllib.Request" in (tmp_path / "asked").read_text()


@pytest.mark.slow
def test_a_trial_asks_nothing_of_the_network_and_leaves_the_settings_alone(
    tiles: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    home = {"RARECALL_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    python("import trainables.detector.settled", **home)  # a node's first worker writes them
    settings = tmp_path / "cache" / "ultralytics" / "Ultralytics" / "settings.json"
    written = settings.stat().st_mtime_ns, settings.read_text()

    spec = tiny_spec(tiles, FOCAL_ALPHA_WEIGHTED)
    (tmp_path / "t").mkdir()
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    printed = python(
        RUN,
        spec.model_dump_json(),
        str(tmp_path / "t"),
        PYTHONPATH=path,
        ASKED=str(tmp_path / "asked"),
        **home,
    )

    *epochs, outcome = printed.splitlines()
    assert isinstance(OUTCOMES.validate_json(outcome), TrialReport), outcome
    assert epochs == ["1", "2", "3", "4"]  # and not a word of Ultralytics
    assert not (tmp_path / "asked").exists()
    assert (settings.stat().st_mtime_ns, settings.read_text()) == written
    assert not (tmp_path / "home").exists()


def test_integrations_are_off_in_the_settings_of_this_node() -> None:
    assert Path(SETTINGS.file).is_relative_to(cache_folder())
    assert json.loads(Path(SETTINGS.file).read_text()) == dict(SETTINGS)
    switches = {name: value for name, value in SETTINGS.items() if isinstance(value, bool)}
    assert {"sync", "raytune", "mlflow"} <= set(switches)
    assert not any(switches.values())
