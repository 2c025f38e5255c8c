"""Processes that want to write to one study at once, on a real S3 server (moto's) and on a folder."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from machines import Machines, written
from s3_server import KEYS, WHY_NOT, s3_server

from search.record.storage.lease import CLAIMS, STALE_S, current
from search.record.storage.remote import Remote
from spaces.errors import UsageError
from trainables.storage.address import parsed

WANTS = """
import json, sys, time
from pathlib import Path
from search.record.storage import lease
from trainables.storage.address import parsed
from search.record.storage.remote import Remote
from spaces.errors import UsageError
lease.SETTLE_S = 0.0  # what settles who has it is to be seen alone
address, mirror, rounds = parsed(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
mirror.mkdir()
print("ready", flush=True)
for number in range(rounds):
    sys.stdin.readline()
    try:
        held = lease.take(Remote(address / str(number)), mirror, "searched", lambda: None)
        print(json.dumps(held.id), flush=True)
    except UsageError:
        print(json.dumps(None), flush=True)
"""
ROUNDS = 15


@contextmanager
def wanting(address: str, root: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that each want a lease whenever they read a line."""
    command = [sys.executable, "-c", WANTS, address]
    them = [
        subprocess.Popen(
            [*command, str(root / str(number)), str(ROUNDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        for one in them:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        yield them
    finally:
        for one in them:
            one.kill()
            one.communicate()


def held(address: str, root: Path) -> list[list[str]]:
    """Of each round the leases that were had, by two processes that want the same one at once."""
    found = []
    with wanting(address, root, 2) as them:
        for _ in range(ROUNDS):
            for one in them:
                assert one.stdin is not None
                one.stdin.write("\n")
                one.stdin.flush()
            said = [json.loads(one.stdout.readline()) for one in them if one.stdout is not None]
            found.append([one for one in said if one is not None])
    return found


def check_one_each(address: str, root: Path) -> None:
    for number, leases in enumerate(held(address, root)):
        assert len(leases) == 1, f"round {number}"
        remote = Remote(parsed(address) / str(number))
        lease = current(remote)
        assert lease is not None
        assert [lease.id] == leases
        assert remote.files(CLAIMS) == {}


def test_of_two_that_want_it_at_once_one_has_it_on_a_folder(tmp_path: Path) -> None:
    check_one_each((tmp_path / "there").as_uri(), tmp_path)


@pytest.mark.cluster
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_of_two_that_want_it_at_once_one_has_it_on_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3_server(tmp_path) as s3:
        check_one_each(s3.address("bucket/race"), tmp_path)


def test_a_claim_of_one_that_died_is_in_nobodys_way_for_long(machines: Machines) -> None:
    with written(machines.on("a")):
        pass
    claim = machines.lease().model_copy(update={"id": "dead", "released": False})
    claims = machines.there / "toy" / CLAIMS
    (claims / "dead").write_text(claim.model_dump_json())
    with pytest.raises(UsageError, match="is wanted by others"), machines.on("b").claimed():
        pass
    older = claim.model_copy(update={"seen": claim.seen - STALE_S})
    (claims / "dead").write_text(older.model_dump_json())
    with machines.on("b").claimed():
        assert list(claims.iterdir()) == []
