"""Machines that are reached by SSH, for tests: each has processes, a network, mounts and a home of its own.

They are namespaces on this machine, tied together by a bridge in a network that nothing else sees. The disk
is shared, as by NFS.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare", "nsenter")
WHY_NOT = (
    "wants root, and Debian's openssh-server, rsync and iproute2"
    if os.geteuid() != 0 or not all(map(shutil.which, NEEDED))
    else ""
)
# The network, with this machine's end of it, and a host for each argument.
NETWORK = """
set -e
mkdir -p /tmp/ray /run/sshd
mount -t tmpfs tmpfs /tmp/ray
ip link set lo up
ip link add lab type bridge
ip addr add 10.77.0.1/24 dev lab
ip link set lab up
for n in "$@"; do
  unshare --pid --net --uts --mount --mount-proc --fork --kill-child bash host.sh "$n" > "host$n.said" 2>&1 &
  until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
  ip link add "lab$n" type veth peer name "host$n"
  ip link set "lab$n" master lab up
  ip link set "host$n" netns "$!"
done
touch ready
wait
"""
HOST = """
set -e
until ip link show "host$1" > /dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip addr add "10.77.0.$1/24" dev "host$1"
ip link set "host$1" up
ip route add default via 10.77.0.1  # by which a machine finds out its own address
hostname "host$1"
mkdir -p "home$1"
sed "s|^\\(root:[^:]*:[^:]*:[^:]*:[^:]*:\\)[^:]*|\\1$PWD/home$1|" /etc/passwd > "passwd$1"
mount --bind "passwd$1" /etc/passwd
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs tmpfs /dev/shm
exec "$(command -v sshd)" -D -e -f /dev/null -h "$PWD/host_key" -o "ListenAddress=10.77.0.$1" \
  -o StrictModes=no -o "AuthorizedKeysFile=$PWD/key.pub" -o UsePAM=no -o PidFile=none -o PermitRootLogin=yes
"""


@dataclass(frozen=True)
class Hosts:
    """Running ones.

    Attributes:
        folder: Their files.
        outer: Process that holds the network.
        addresses: Of the hosts.
    """

    folder: Path
    outer: int
    addresses: tuple[str, ...]

    @property
    def key(self) -> Path:
        """What logs in to each of them."""
        return self.folder / "key"

    def typed(
        self, *command: str, at: Path, environment: Mapping[str, str], within_s: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        """What a command does in their network, outside of them."""
        inside = ["nsenter", "--target", str(self.outer), "--net", "--mount", f"--wd={at}"]
        return subprocess.run(
            [*inside, *command],
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def ssh_hosts(folder: Path, count: int) -> Iterator[Hosts]:
    """So many that can be logged in to, until the context ends."""
    folder.mkdir()
    for name in ("key", "host_key"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(made, check=True)
    (folder / "host.sh").write_text(HOST)
    numbers = [str(2 + i) for i in range(count)]
    separate = ["unshare", "--pid", "--net", "--mount", "--mount-proc", "--fork", "--kill-child"]
    with (folder / "network.said").open("w") as said:
        outer = subprocess.Popen(
            [*separate, "bash", "-c", NETWORK, "network", *numbers],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + 30
        while not (folder / "ready").exists():
            assert outer.poll() is None, (folder / "network.said").read_text()
            assert time.monotonic() < until, (folder / "network.said").read_text()
            time.sleep(0.1)
        # The child of `unshare` has the mounts; both have the network.
        child = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])
        hosts = Hosts(folder, child, tuple(f"10.77.0.{number}" for number in numbers))
        for address in hosts.addresses:
            _wait_for_login(hosts, address)
        yield hosts
    finally:
        outer.send_signal(signal.SIGKILL)  # `--kill-child` takes the namespaces' init with it
        outer.wait()


def _wait_for_login(hosts: Hosts, address: str) -> None:
    until = time.monotonic() + 30
    options = [
        *("-i", str(hosts.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "BatchMode=yes", "-o", "ConnectTimeout=2"),
    ]
    while True:
        done = hosts.typed("ssh", *options, f"root@{address}", "true", at=hosts.folder, environment={})
        if done.returncode == 0:
            return
        said = "".join(log.read_text() for log in hosts.folder.glob("*.said"))
        assert time.monotonic() < until, done.stderr + said
        time.sleep(0.2)
