"""A study on a cluster that Ray's launcher starts from a file, `ray up cluster.yaml`: then a job on its head.

All that is done is done by Ray's own commands, which a dry run prints. The job is submitted on the head, so
nothing of it needs to be reachable but SSH.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from search.launching.client import about
from search.launching.jobs import entrypoint, job_name
from search.launching.package import package
from search.launching.wanted import Launched, Wanted, check_shared
from spaces.errors import RunError, UsageError
from spaces.yaml_file import read_yaml

STARTS_WITHIN_S = 3600  # machines that are rented, images, setup commands
ANSWERS_WITHIN_S = 120
LAST_LINES = 12
PLACEHOLDER = re.compile(r"YOUR-[A-Z0-9-]*[A-Z0-9]")
# Where a token is on the head, its Ray wants it, and `ray job` looks for none unless it is told to.
TOKEN = '[ ! -f ~/.ray/auth_token ] || export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"'


def launch(
    wanted: Wanted, *, cluster: Path, dry_run: bool, say: Callable[[str], None] = lambda line: None
) -> Launched:
    """Write the package, start the cluster unless it is there, and submit a job on its head.

    A cluster that is there goes on as it is: its Ray is not restarted, as that would end what runs.

    Args:
        wanted: What is launched; the folder of its runs, and data that do not go along, are seen by all
            nodes.
        cluster: The launcher's file.
        dry_run: Start nothing.
        say: Is told what Ray's commands print, a line at a time: machines take minutes to come up.

    Raises:
        UsageError: What `package`, `check_shared` and `check_launcher_file` refuse.
        RunError: A command of Ray fails, with what it said last.
    """
    check_launcher_file(cluster, for_real=not dry_run)
    check_shared(wanted)
    written = package(wanted)
    job = job_name(wanted)
    up, *others = commands(wanted, cluster, written, job)
    if not dry_run:
        _do(up, STARTS_WITHIN_S, say)
        for command in others:
            _do(command, ANSWERS_WITHIN_S, say)
    file = str(cluster)
    watch = (
        shlex.join(["ray", "exec", file, f"{TOKEN}; ray job logs --follow {job}"]),
        shlex.join(["ray", "exec", file, f"rarecall status {shlex.quote(str(wanted.folder))}"]),
        f"ray down {shlex.quote(file)} ends the cluster, when the study is finished",
    )
    submit = " && ".join(shlex.join(command) for command in (up, *others))
    notes = (wanted.needs,)
    return Launched(written, submit, None if dry_run else job, watch, notes)


def check_launcher_file(cluster: Path, *, for_real: bool) -> None:
    """By Ray's own schema, as `ray up` does, which a dry run does not call.

    Args:
        cluster: The file.
        for_real: Whether it may hold nothing that is to be replaced.

    Raises:
        UsageError: It is missing, is not as Ray wants it, or its placeholders are still there.
    """
    if not cluster.is_file():
        raise UsageError(f"no such file: {cluster}", "cluster.yaml is one for AWS; --cluster names another")
    config = read_yaml(cluster)
    provider = config.get("provider") if isinstance(config, dict) else None
    if not isinstance(provider, dict):
        raise UsageError(f"{cluster}: provider: who has the machines is needed, e.g. {{type: aws, …}}")
    named = {"head_ip", "worker_ips"} <= {*provider} or "coordinator_address" in provider
    if provider.get("type") == "local" and not named:  # Ray would end this process
        raise UsageError(f"{cluster}: provider: head_ip and worker_ips are needed")
    try:
        validate_config(prepare_config(config))
    except ValidationError as error:
        where = "".join(f"{key}: " for key in error.absolute_path)
        raise UsageError(f"{cluster}: {where}{error.message}") from None
    except (ValueError, RuntimeError) as error:  # of workers, or no such provider
        raise UsageError(f"{cluster}: {error}") from None
    left = sorted(set(PLACEHOLDER.findall(cluster.read_text())))
    if for_real and left:
        raise UsageError(f"{cluster}: not filled in yet: {', '.join(left)}")


def commands(wanted: Wanted, cluster: Path, package: Path, job: str) -> list[list[str]]:
    """Ray's commands: the cluster, the package on its head, the job."""
    there = f"/tmp/{job}.zip"
    named = f"--submission-id {job} --metadata-json {shlex.quote(json.dumps(about(str(wanted.folder))))}"
    submit = f"ray job submit --no-wait {named} --working-dir {there} -- {entrypoint(wanted)}"
    return [
        ["ray", "up", "--yes", "--no-restart", str(cluster)],
        ["ray", "rsync-up", str(cluster), str(package), there],
        ["ray", "exec", str(cluster), f"{TOKEN}; {submit}"],
    ]


def _do(command: Sequence[str], within_s: float, say: Callable[[str], None]) -> None:
    """Run one of Ray's commands and pass on what it says, the end of which is why one fails."""
    ray = [sys.executable, "-u", "-m", "ray.scripts.scripts", *command[1:]]
    name, late = " ".join(command[:2]), threading.Event()
    last: deque[str] = deque(maxlen=LAST_LINES)
    say(f"{name} …")
    with subprocess.Popen(
        ray,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # with what it has started, it ends as a whole
    ) as running:
        assert running.stdout is not None

        def end() -> None:
            late.set()
            os.killpg(running.pid, signal.SIGKILL)

        overdue = threading.Timer(within_s, end)
        overdue.start()
        try:
            for line in running.stdout:
                if line.strip():
                    last.append(line.rstrip())
                    say(f"  {line.rstrip()}")
        except BaseException:
            os.killpg(running.pid, signal.SIGTERM)
            raise
        finally:
            overdue.cancel()
    if late.is_set():
        raise RunError(f"`{name}` is not done after {within_s:.0f} s")
    if running.returncode:
        said = "\n".join(last)
        raise RunError(f"`{name}` fails:\n{said}", f"by hand: {shlex.join(command)}")
