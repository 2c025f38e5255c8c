"""Who may write to a study on a storage: an object there says who does, and when it was last seen.

A lock of the mirror's folder keeps two processes of one machine apart; this does so for those of several.
Pyarrow writes nothing under a condition, so whoever wants the lease leaves a claim of a name of its own, and
then looks for those of others: of two, in whatever order their claims come, at least one sees the other's.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from search.record.storage.remote import Remote
from spaces.errors import RunError, UsageError
from spaces.frozen import Frozen

LEASE = ".lease.json"
CLAIMS = ".claims"  # a folder: of those who are about to take it
OWN = ".leases"  # in a mirror: ids of the leases it was written under
STALE_S = 120.0
REFRESH_S = 20.0
SETTLE_S = 1.0  # where files are seen late, as on NFS: of two leases written at once, the one is gone by then
TRIES, PAUSE_MS = 8, 500  # where others claim it, too


class Lease(Frozen):
    """One that is, or was, held.

    Attributes:
        id: Drawn anew for each.
        host: Of the process that holds it.
        pid: Its id there.
        being: What the study is being: `searched`, `confirmed` or `compared`.
        since: When it was taken, in seconds since 1970.
        seen: When it was last refreshed, likewise.
        released: Whether it was given back.
    """

    id: str
    host: str
    pid: int
    being: str
    since: float
    seen: float
    released: bool = False

    @property
    def holds(self) -> bool:
        """Whether somebody writes under it, as far as is known."""
        return not self.released and time.time() - self.seen < STALE_S


def current(remote: Remote) -> Lease | None:
    """The last one that was taken of a study."""
    stored = remote.read(LEASE)
    if stored is None:
        return None
    try:
        return Lease.model_validate_json(stored)
    except ValidationError as error:
        raise RunError(f"{(remote.address / LEASE).place} is damaged: {error}", "remove it") from None


def is_own(lease: Lease | None, mirror: Path) -> bool:
    """Whether a mirror was the last to write to what it mirrors: it is at least as new."""
    own = mirror / OWN
    return lease is not None and own.exists() and lease.id in own.read_text().split()


def take(remote: Remote, mirror: Path, being: str, restore: Callable[[], None]) -> Lease:
    """Be the one machine that writes; to be called with the mirror's own lock held.

    Args:
        remote: The study on its storage.
        mirror: Its folder here.
        being: As of `Lease`.
        restore: Called if another mirror was the last to write: it makes this one as new.

    Raises:
        UsageError: Another machine is.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep((1 + secrets.randbelow(PAUSE_MS * attempt)) / 1000)  # not all at the same time again
        found = current(remote)
        own = is_own(found, mirror)  # then what held the mirror's lock under it has ended
        if found is not None and found.holds and not own:
            raise _held(remote, found)
        now, host = time.time(), socket.gethostname()
        lease = Lease(id=secrets.token_hex(8), host=host, pid=os.getpid(), being=being, since=now, seen=now)
        with _claimed(remote, lease) as alone:
            # Who has claimed it and is done has left another lease.
            if not alone or current(remote) != found:
                continue
            if not own:
                restore()
            partial = mirror / f"{OWN}.partial"  # first: what is cut after the lease is written knows it
            partial.write_text(lease.id if found is None else f"{found.id} {lease.id}")
            partial.replace(mirror / OWN)
            _write(remote, lease)
            time.sleep(SETTLE_S)
            found = current(remote)
            if found is None or found.id != lease.id:
                raise _held(remote, found)
            return lease
    raise UsageError(f"{remote.address.place} is wanted by others right now", "try again")


@contextmanager
def _claimed(remote: Remote, lease: Lease) -> Iterator[bool]:
    """Claim what a lease is of, within the context; yields whether nobody else does."""
    own = f"{CLAIMS}/{lease.id}"
    remote.write(own, lease.model_dump_json().encode())
    try:
        others = [name for name in remote.files(CLAIMS) if name != lease.id and not name.startswith(".")]
        yield all([_is_stale(remote, f"{CLAIMS}/{name}") for name in others])
    finally:
        remote.remove(own)


def _is_stale(remote: Remote, claim: str) -> bool:
    """Whether who has left a claim is gone, or done; of one that is gone it is removed."""
    stored = remote.read(claim)
    if stored is None:
        return True
    if Lease.model_validate_json(stored).holds:
        return False
    remote.remove(claim)
    return True


def refreshed(remote: Remote, lease: Lease) -> Lease:
    """The lease, seen now.

    Raises:
        RunError: Another machine has taken it meanwhile.
    """
    found = current(remote)
    if found is None or found.id != lease.id:
        where = "" if found is None else f" by process {found.pid} on {found.host}"
        raise RunError(
            f"{remote.address.place} was taken over{where}: this process was away for too long",
            "what it has finished is on the storage",
        )
    lease = lease.model_copy(update={"seen": time.time()})
    _write(remote, lease)
    return lease


def release(remote: Remote, lease: Lease) -> None:
    """Give it back."""
    _write(remote, lease.model_copy(update={"released": True, "seen": time.time()}))


def _write(remote: Remote, lease: Lease) -> None:
    remote.write(LEASE, lease.model_dump_json().encode())


def _held(remote: Remote, lease: Lease | None) -> UsageError:
    if lease is None:
        return UsageError(f"{remote.address.place} is being removed right now")
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(lease.since))
    ago = max(0.0, time.time() - lease.seen)
    return UsageError(
        f"{remote.address.place} is being {lease.being} right now, by process {lease.pid} on {lease.host} "
        f"since {since}, seen {ago:.0f} s ago",
        f"if that process has ended, try again in {max(1.0, STALE_S - ago):.0f} s",
    )
