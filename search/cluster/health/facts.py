"""What one node has, found out on it: versions, GPUs, room, a file on the storage, its clock, open ports.

Its functions travel to the node whole (`cluster.nodes`), so they also run where rarecall is not installed:
nothing but the standard library, and plain values as results. Judges nothing.
"""

import hashlib
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "rarecall", "optuna", "ultralytics")
WINGS = ("rarecall", "search", "spaces", "trainables")
CODE = "rarecall's code"  # its version alone says little between two releases
ABSENT = "absent"
DEVICES = ("/dev/nvidiactl", "/dev/dxg")  # of Linux, and of Linux within Windows
VISIBLE = "CUDA_VISIBLE_DEVICES"
SEEN_S = 5.0  # that a shared folder may take to show a new file
TORCH_S = 120.0  # to import torch and to add two numbers on each GPU
CUDA = """
import json, torch
failed = {}
for number in range(torch.cuda.device_count()):
    try:
        (torch.ones(2, device=f"cuda:{number}") + 1).sum().item()
    except Exception as error:
        failed[number] = str(error).strip().splitlines()[0]
print(json.dumps({"seen": torch.cuda.device_count(), "failed": failed}))
"""


def examine(runs: str, mark: str, ports: Sequence[int], temporary: str, given: float) -> dict[str, Any]:
    """All facts of this node.

    Args:
        runs: Absolute path of the folder of all studies, or its address on a storage.
        mark: Name of a file in it that the driver has written; this node writes one beside it.
        ports: Whose listeners are wanted.
        temporary: Ray's folder for what it spills.
        given: GPUs that Ray gives out here.
    """
    folders = {} if "://" in runs else {"runs": runs}
    folders |= {"Ray's temporary folder": temporary, "/dev/shm": "/dev/shm"}
    disks = {what: room(path) for what, path in folders.items()}
    return {
        "host": socket.gethostname(),
        "versions": versions(),
        "gpus": gpus(given),
        "disks": {what: found for what, found in disks.items() if found is not None},
        "cache": cache_folder(),
        "memory": free_memory(),
        "storage": leave_object(runs, mark) if "://" in runs else leave_mark(Path(runs), mark),
        "listening": listening(ports),
        "asks_token": os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
        "token_readable": token_readable(),
    }


def clock() -> float:
    """Seconds since 1970, as this node has it."""
    return time.time()


def versions() -> dict[str, str]:
    """Of what decides a run's numbers; `absent` where there is none."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ABSENT
    return found | {CODE: _code()}


def _code() -> str:
    """A digest of rarecall's own files; no file is run for it."""
    digest = hashlib.sha256()
    for wing in WINGS:
        spec = find_spec(wing)
        if spec is None or not spec.submodule_search_locations:
            return ABSENT
        root = Path(next(iter(spec.submodule_search_locations)))
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{wing}/{file.relative_to(root)}".encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def gpus(given: float) -> dict[str, Any]:
    """How many torch sees, and which of them do not compute; in a process of its own, as it takes memory.

    Torch takes long to load, so it is not asked where there is no sign of a GPU.

    Args:
        given: That Ray gives out here.
    """
    if not given and not any(Path(device).exists() for device in DEVICES):
        return {"seen": 0, "failed": {}, "error": ""}
    environment = dict(os.environ)
    raylet = Path("/proc", os.environ.get("RAY_RAYLET_PID", "none"), "environ")
    if raylet.is_file():  # Ray hides all GPUs from a task that has asked for none
        environment.pop(VISIBLE, None)
        for entry in raylet.read_bytes().split(b"\0"):
            name, _, value = entry.decode(errors="replace").partition("=")
            if name == VISIBLE:
                environment[VISIBLE] = value
    command = [sys.executable, "-c", CUDA]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TORCH_S)
    except subprocess.TimeoutExpired:
        return {"seen": 0, "failed": {}, "error": f"torch has not answered within {TORCH_S:g} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {"seen": 0, "failed": {}, "error": said[-1]}
    return {**json.loads(done.stdout.splitlines()[-1]), "error": ""}


def room(path: str) -> dict[str, Any] | None:
    """Bytes on the disk of a folder, or of what will hold it; None where the system knows no such thing."""
    there = next((folder for folder in (Path(path), *Path(path).parents) if folder.is_dir()), None)
    if there is None or (path == "/dev/shm" and str(there) != path):
        return None
    usage = shutil.disk_usage(there)
    return {"path": path, "total": usage.total, "free": usage.free}


def cache_folder() -> dict[str, Any] | None:
    """Where runs keep what can be made again, and whether they can; None without rarecall."""
    try:
        # Of the node's own rarecall, which may be another.
        from trainables.contract.node import cache_folder  # noqa: PLC0415
    except ImportError:
        return None
    try:
        folder = cache_folder()
        trial = folder / f".doctor-{os.getpid()}"
        trial.write_bytes(b"x")
        trial.unlink()
    except OSError as error:
        return {"error": str(error), "room": None}
    return {"error": "", "room": room(str(folder))}


def free_memory(root: Path = Path("/")) -> dict[str, int] | None:
    """Bytes that processes can still take: of the machine, or of the container if that allows less.

    Args:
        root: Of the file system.
    """
    try:
        sizes = _numbers(root / "proc/meminfo")
    except FileNotFoundError:
        return None
    total, free = sizes["MemTotal:"] * 1024, sizes["MemAvailable:"] * 1024
    for folder, limit, used, idle in (
        ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        group = root / folder
        if (group / limit).is_file() and (most := (group / limit).read_text().strip()).isdigit():
            told = group / "memory.stat"  # some sandboxes have none
            # Of files that were read: given up as soon as memory is short.
            cached = _numbers(told).get(idle, 0) if told.is_file() else 0
            total = min(total, int(most))
            free = min(free, int(most) - int((group / used).read_text()) + cached)
    return {"total": total, "free": free}


def _numbers(file: Path) -> dict[str, int]:
    """Of the kernel's lines, each with a name and a number."""
    rows = [line.split() for line in file.read_text().splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}


def leave_mark(runs: Path, mark: str) -> dict[str, Any]:
    """Whether this node sees the driver's file, and why it could not leave its own beside it, if so.

    The folder is not made: where a node makes one of its own, nobody else sees what it writes there.
    """
    found: dict[str, Any] = {"sees": (runs / mark).is_file(), "left": "", "error": ""}
    if runs.is_dir():
        name = f"{mark}-{socket.gethostname()}-{os.getpid()}"
        try:
            with (runs / name).open("w") as file:
                file.write(name)
                file.flush()
                os.fsync(file.fileno())
            found["left"] = name
        except OSError as error:
            found["error"] = error.strerror or str(error)
    return found


def leave_object(runs: str, mark: str) -> dict[str, Any]:
    """As `leave_mark`, on a storage."""
    name = f"{mark}-{socket.gethostname()}-{os.getpid()}"
    try:
        from pyarrow.fs import FileSystem  # noqa: PLC0415  (as in `lacks`)

        system, folder = FileSystem.from_uri(runs)
        with system.open_input_stream(f"{folder}/{mark}") as stream:
            stream.read()
        with system.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(name.encode())
    except (ImportError, OSError, ValueError) as error:
        return {"sees": False, "left": "", "error": str(error).splitlines()[0]}
    return {"sees": True, "left": name, "error": ""}


def lacks(paths: Sequence[str], address: str, mark: str) -> str:
    """What this node does not see of what the driver does; nothing if it sees all of it.

    Args:
        paths: Files and folders. One that was made a moment ago may take another to be seen.
        address: Of a storage, or nothing.
        mark: Name of a file on it.
    """
    until = time.monotonic() + SEEN_S
    for path in paths:
        while not os.path.exists(path):
            if time.monotonic() > until:
                return path
            time.sleep(0.2)
    if address:
        from pyarrow.fs import FileSystem  # noqa: PLC0415  (Ray's own, where a storage is used)

        try:
            system, folder = FileSystem.from_uri(address)
            with system.open_input_stream(f"{folder}/{mark}") as stream:
                stream.read()
        except (OSError, ValueError) as error:
            return f"{address.partition('?')[0]} ({str(error).splitlines()[0]})"
    return ""


def listening(ports: Sequence[int]) -> dict[int, list[str]]:
    """Port -> the addresses of this node at which somebody listens there, as far as the system says."""
    found: dict[int, list[str]] = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            address, _, port = local.partition(":")
            if state == "0A" and int(port, 16) in ports:
                found.setdefault(int(port, 16), []).append(_address(address))
    return found


def _address(written: str) -> str:
    """Of the kernel's words in hexadecimal, each in the machine's order of bytes."""
    words = [int(written[at : at + 8], 16) for at in range(0, len(written), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def token_readable() -> str:
    """The file with Ray's token, if every user of the machine may read it; else nothing."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").resolve()
    if not path.is_file():
        return ""
    ways = [(path, stat.S_IROTH), *((folder, stat.S_IXOTH) for folder in path.parents)]
    return str(path) if all(way.stat().st_mode & bit for way, bit in ways) else ""
