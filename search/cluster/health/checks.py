"""From what nodes have to what is wrong with them, each with its mend. Pure: asks nobody, prints nothing."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from search.cluster.health.facts import ABSENT, CODE
from search.cluster.health.node import Check, Examined, Room, Verdict

GIB = 2**30
FEW_GIB, LEAST_GIB = 10, 1  # of a disk: a study of a hundred small detectors takes some; one checkpoint
FEW_MEMORY_GIB, LEAST_MEMORY_GIB = 4, 1  # torch with a small network takes about 1
FEW_SHARED_GIB = 1  # of /dev/shm: loader processes hand batches over there; a container has 64 MiB by default
RAY_FULL = 0.95  # a raylet with a fuller disk starts nothing more
SKEW_S, MUCH_SKEW_S = 2.0, 300.0  # S3 and Kerberos refuse clocks that differ by 5 to 15 minutes
LOCK = "pip install -c requirements.lock on every node, or one image for all"
REACH = "every node needs credentials for the storage, and a way to it"
SHARE = "a folder that every node mounts at the same path, named by --runs; or a cluster of one node"
TOKEN = (
    "on the head `ray get-auth-token --generate`; copy its ~/.ray/auth_token to every node; "
    "set RAY_AUTH_MODE=token for each `ray start` and each client; or keep these ports behind a firewall"
)


def differences(own: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """`torch 2.14.1, the driver has 2.13.0`, for each version that is another."""
    return [f"{name} {theirs[name]}, the driver has {own[name]}" for name in own if theirs[name] != own[name]]


def check_versions(own: Mapping[str, str], nodes: Sequence[Examined]) -> Iterator[Check]:
    """Whether every node computes with what the driver has."""
    mend = f"the same on all: {LOCK}"
    for node in nodes:
        for said in differences(own, node.facts.versions):
            grave = f" {ABSENT}," in said or said.startswith(("rarecall", CODE))
            yield Check("versions", "problem" if grave else "warning", f"{node.name}: {said}", mend)
    if all(node.facts.versions == own for node in nodes):
        yield Check("versions", "ok", ", ".join(f"{name} {found}" for name, found in own.items()))


def check_gpus(nodes: Sequence[Examined]) -> Iterator[Check]:
    """Whether torch can use the GPUs that Ray gives out."""
    for node in nodes:
        found, gpus = node.facts.gpus, f"{node.gpus:g}"
        if found.error:
            mend = "python -c 'import torch; print(torch.cuda.device_count())' there says more"
            yield Check("gpus", "problem", f"{node.name}: {found.error}", mend)
        elif found.seen < node.gpus:
            said = f"{node.name}: Ray gives out {gpus}, torch sees {found.seen}"
            mend = f"a torch built for its driver (see nvidia-smi), or `ray start --num-gpus {found.seen}`"
            yield Check("gpus", "problem", said, mend)
        elif found.seen > node.gpus:
            said = f"{node.name}: torch sees {found.seen}, Ray gives out {gpus}"
            yield Check(
                "gpus", "warning", said, f"`ray start --num-gpus {found.seen}` there, to use them all"
            )
        for number, why in found.failed.items():
            mend = "nvidia-smi: is it taken, or older than this torch supports?"
            yield Check("gpus", "problem", f"{node.name}: GPU {number} does not compute: {why}", mend)
    good = [one for one in nodes if not one.facts.gpus.error and not one.facts.gpus.failed]
    if all(one in good and one.facts.gpus.seen == one.gpus for one in nodes):
        total = sum(one.facts.gpus.seen for one in nodes)
        yield Check("gpus", "ok", f"{total}, each computes" if total else "none; trials train on the CPU")


def check_disks(nodes: Sequence[Examined]) -> Iterator[Check]:
    """Whether there is room for what a search writes on each node."""
    fine = True
    for node in nodes:
        facts = node.facts
        rooms = {what: room for what, room in facts.disks.items() if what != "/dev/shm"}
        if facts.cache is not None and facts.cache.error:
            fine = False
            said = f"{node.name}: the cache folder cannot be written: {facts.cache.error}"
            yield Check("disk", "problem", said, "set RARECALL_CACHE there, to a folder of a local disk")
        if facts.cache is not None and facts.cache.room is not None:
            rooms["cache folder"] = facts.cache.room
        for what, room in rooms.items():
            verdict = _of_room(room, spills=what.startswith("Ray"))
            if verdict != "ok":
                fine = False
                said = f"{node.name}: {what}: {_gib(room.free)} of {_gib(room.total)} free in {room.path}"
                yield Check("disk", verdict, said, "make room, or name a folder of another disk")
        shared = facts.disks.get("/dev/shm")
        if shared is not None and shared.total < FEW_SHARED_GIB * GIB:
            fine = False
            said = f"{node.name}: /dev/shm has {_gib(shared.total)}: loader processes need more"
            yield Check("disk", "warning", said, "of a container: docker run --shm-size=8g")
    if fine:
        least = min(room.free for node in nodes for room in node.facts.disks.values())
        yield Check("disk", "ok", f"at least {_gib(least)} free wherever something is written")


def _of_room(room: Room, *, spills: bool) -> Verdict:
    if room.free < LEAST_GIB * GIB:
        return "problem"
    full = spills and room.free < (1 - RAY_FULL) * room.total
    return "warning" if room.free < FEW_GIB * GIB or full else "ok"


def check_memory(nodes: Sequence[Examined]) -> Iterator[Check]:
    """Whether a worker has memory to start in."""
    known = [(one.name, one.facts.memory) for one in nodes if one.facts.memory is not None]
    tight = [(name, memory) for name, memory in known if memory.free < FEW_MEMORY_GIB * GIB]
    for name, memory in tight:
        verdict: Verdict = "problem" if memory.free < LEAST_MEMORY_GIB * GIB else "warning"
        said = f"{name}: {_gib(memory.free)} of {_gib(memory.total)} free"
        yield Check(
            "memory", verdict, said, "end what takes it, or fewer trials at once: a larger resources.cpu"
        )
    if known and not tight:
        least = min(memory.free for _, memory in known)
        yield Check("memory", "ok", f"at least {_gib(least)} free on each node")


def check_storage(runs: str, nodes: Sequence[Examined]) -> Iterator[Check]:
    """Whether what a trial leaves on any node is where the driver reads it."""
    for node in nodes:
        storage = node.facts.storage
        if storage.error and "://" in runs:
            said = f"{node.name}: {runs} cannot be used there: {storage.error}"
            yield Check("storage", "problem", said, REACH)
        elif storage.error:
            said = f"{node.name}: {runs} cannot be written there: {storage.error}"
            yield Check("storage", "problem", said, f"give Ray's user there the right to write in {runs}")
        elif not (storage.sees and storage.left and node.seen):
            said = f"{node.name}: {runs} is not the driver's folder there"
            yield Check("storage", "problem", said, SHARE)
    if all(one.facts.storage.sees and one.facts.storage.left and one.seen for one in nodes):
        yield Check("storage", "ok", f"{runs} is written by each node and read by the driver")


def check_clocks(nodes: Sequence[Examined]) -> Iterator[Check]:
    """Whether all nodes have the same time, as nearly as that can be asked."""
    wrong = [one for one in nodes if abs(one.skew_s) > SKEW_S]
    for node in wrong:
        verdict: Verdict = "problem" if abs(node.skew_s) > MUCH_SKEW_S else "warning"
        way = "ahead of" if node.skew_s > 0 else "behind"
        said = f"{node.name}: at least {abs(node.skew_s):.1f} s {way} the driver's clock"
        yield Check("clock", verdict, said, "let chrony or ntpd set the clocks of all nodes")
    if not wrong:
        yield Check("clock", "ok", f"no clock is seen to differ by more than {SKEW_S:g} s")


def check_storage_clock(runs: str, skew_s: float) -> Check:
    """Whether a storage, by which a lease is dated and a signature checked, has the driver's time."""
    if abs(skew_s) <= SKEW_S:
        return Check(
            "clock", "ok", f"{runs} is not seen to differ from the driver's clock by more than {SKEW_S:g} s"
        )
    verdict: Verdict = "problem" if abs(skew_s) > MUCH_SKEW_S else "warning"
    way = "ahead of" if skew_s > 0 else "behind"
    said = f"{runs}: at least {abs(skew_s):.1f} s {way} the driver's clock"
    return Check("clock", verdict, said, "let chrony or ntpd set this machine's clock")


def check_ports(nodes: Sequence[Examined]) -> Iterator[Check]:
    """To whom Ray's ports are open, and whether they ask for a token."""
    told = False
    for node in nodes:
        open_to = _open_ports(node)
        if open_to:
            told = True
            heard = "; ".join(f"{', '.join(services)} on {where}" for where, services in open_to.items())
            if node.facts.asks_token:
                said = f"{node.name}: open to who has the token: {heard}"
                yield Check("ports", "ok", said)
            else:
                said = f"{node.name}: open without a token, so whoever reaches it runs code there: {heard}"
                yield Check("ports", "warning", said, TOKEN)
    if not told:
        yield Check("ports", "ok", "no port of Ray's is open to other machines")


def check_local_ports(mode: str) -> Check:
    """Of a Ray that a command starts for itself; it cannot be told to listen on the loopback alone.

    Args:
        mode: RAY_AUTH_MODE as it will have it.
    """
    said = "a local Ray listens on every network of this machine while a command runs"
    if mode.lower() == "token":
        return Check("ports", "ok", f"{said}, to who has the token")
    return Check(
        "ports", "warning", f"{said}, and RAY_AUTH_MODE={mode} lets anybody in", "unset RAY_AUTH_MODE"
    )


def check_token_files(nodes: Sequence[Examined]) -> Iterator[Check]:
    """Whether Ray's token is its owner's alone; Ray writes it with the usual rights."""
    for node in nodes:
        file = node.facts.token_readable
        if file:
            said = f"{node.name}: every user of the machine can read {file}"
            yield Check("token", "warning", said, f"chmod 600 {file}")


def _open_ports(node: Examined) -> dict[str, list[str]]:
    """Where -> the services that listen there, for more than the node itself."""
    found: dict[str, list[str]] = {}
    for service, port in node.ports.items():
        for address in node.facts.listening.get(port, []):
            known = ipaddress.ip_address(address)
            if not known.is_loopback:
                where = "every network" if known.is_unspecified else address
                services = found.setdefault(where, [])
                services += [f"{service} {port}"] if f"{service} {port}" not in services else []
    return found


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
