"""A real Slurm of one node, for tests: its daemons in namespaces of their own, which see nothing else.

What runs there has its own processes and its own network, as `ray symmetric-run` stops every Ray it sees.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commands import RARECALL

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare", "nsenter")
WHY_NOT = (
    "wants root and Debian's slurm-wlm, as `.ci/run` installs it"
    if os.geteuid() != 0 or not all(map(shutil.which, DAEMONS))
    else ""
)
CONF = """
ClusterName=test
SlurmctldHost=node(10.11.12.13)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,requeue_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
NodeName=node NodeAddr=10.11.12.13 CPUs=2 RealMemory=4000
PartitionName=all Nodes=node Default=YES OverSubscribe=EXCLUSIVE MaxTime=INFINITE State=UP
"""
INIT = """
set -e
ip link set lo up
ip addr add 10.11.12.13/32 dev lo  # with 127.0.0.1 alone no name would be resolved
hostname node
mkdir -p state spool munge
head -c 1024 /dev/urandom > munge/key; chmod 400 munge/key
munged --foreground --force --socket="$PWD/munge.socket" --key-file="$PWD/munge/key" \
  --log-file="$PWD/munge/log" --pid-file="$PWD/munge/pid" --seed-file="$PWD/munge/seed" &
until [ -S munge.socket ]; do sleep 0.1; done
slurmctld -D -c -f "$SLURM_CONF" > slurmctld.said 2>&1 &
slurmd -D -c -N node -f "$SLURM_CONF" > slurmd.said 2>&1 &
wait
"""


@dataclass
class Slurm:
    """A running one.

    Attributes:
        folder: Its files.
        init: Process that holds its namespaces; with it all else in them ends.
    """

    folder: Path
    init: int

    def typed(self, *command: str, at: Path) -> str:
        """What a command says that is typed on its node.

        Args:
            command: With its arguments.
            at: Where it is typed.
        """
        inside = ["nsenter", "--target", str(self.init), "--pid", "--net", "--uts", "--mount", f"--wd={at}"]
        done = subprocess.run(
            [*inside, *command], capture_output=True, text=True, timeout=120, check=False, env=self.env
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def env(self) -> dict[str, str]:
        return environment(self.folder)

    def state(self, job: str) -> str:
        """Of a job, e.g. `RUNNING`."""
        said = self.typed("scontrol", "show", "job", "--oneliner", job, at=self.folder)
        return next(word for word in said.split() if word.startswith("JobState=")).partition("=")[2]

    def wait_until(self, job: str, states: set[str], within_s: float) -> str:
        """The first of these states that a job gets into."""
        self.wait_for(lambda: self.state(job) in states, within_s)
        return self.state(job)

    def wait_for(self, happened: Callable[[], object], within_s: float) -> None:
        """Wait until something is so."""
        until = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < until, "".join(
                f"{log}:\n{log.read_text()[-4000:]}" for log in self.folder.parent.glob("runs/*.log")
            )
            time.sleep(0.5)


def environment(folder: Path) -> dict[str, str]:
    path = f"{RARECALL.parent}:{os.environ['PATH']}"
    return os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[Slurm]:
    """One that is ready for jobs, until the context ends."""
    folder.mkdir()
    (folder / "slurm.conf").write_text(CONF.format(folder=folder))
    separate = ["unshare", "--pid", "--net", "--uts", "--mount", "--mount-proc", "--fork", "--kill-child"]
    with (folder / "init.said").open("w") as said:
        outer = subprocess.Popen(
            [*separate, "bash", "-c", INIT],
            cwd=folder,
            env=environment(folder),
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        slurm = Slurm(folder, _child(outer.pid))
        until = time.monotonic() + 60
        while True:
            try:
                if "idle" in slurm.typed("sinfo", "--noheader", "--format=%T", at=folder):
                    break
            except AssertionError:
                if time.monotonic() > until:
                    raise
            assert time.monotonic() < until, (folder / "slurmctld.log").read_text()
            time.sleep(0.5)
        yield slurm
    finally:
        outer.send_signal(signal.SIGKILL)  # `--kill-child` takes the namespaces' init with it
        outer.wait()


def _child(pid: int) -> int:
    """The one child of a process, once it is there."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise AssertionError("no child")
