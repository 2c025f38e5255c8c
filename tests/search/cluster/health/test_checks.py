"""What facts of nodes mean: each check by hand, without a cluster."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from search.cluster.health.checks import (
    GIB,
    check_clocks,
    check_disks,
    check_gpus,
    check_local_ports,
    check_memory,
    check_ports,
    check_storage,
    check_token_files,
    check_versions,
)
from search.cluster.health.node import Check, Examined, Facts
from search.cluster.nodes import skew_s

OWN = {"python": "3.11.7", "torch": "2.14.1", "rarecall": "0.1.0", "rarecall's code": "26439609"}


def room(free_gib: float, total_gib: float = 100) -> dict[str, Any]:
    return {"path": "/there", "total": int(total_gib * GIB), "free": int(free_gib * GIB)}


def node(name: str = "a (10.0.0.1)", **changes: Any) -> Examined:
    """One in good order, but for the facts that are given."""
    fine: dict[str, Any] = {
        "host": "a",
        "versions": OWN,
        "gpus": {"seen": 0, "failed": {}, "error": ""},
        "disks": {"runs": room(50), "/dev/shm": room(8, 8)},
        "cache": {"error": "", "room": room(50)},
        "memory": {"total": 32 * GIB, "free": 16 * GIB},
        "storage": {"sees": True, "left": "x", "error": ""},
        "listening": {},
        "asks_token": False,
        "token_readable": "",
    }
    return Examined(name, Facts.model_validate(fine | changes))


def verdicts(checks: Iterable[Check]) -> list[str]:
    found = list(checks)
    assert all(bool(one.mend) == (one.verdict != "ok") for one in found)
    return [one.verdict for one in found]


def test_nodes_in_good_order_have_one_line_a_check() -> None:
    two = [node(), node("b (10.0.0.2)")]
    for checks in (
        check_versions(OWN, two),
        check_gpus(two),
        check_disks(two),
        check_memory(two),
        check_storage("/runs", two),
        check_clocks(two),
        check_ports(two),
    ):
        assert verdicts(checks) == ["ok"]
    assert verdicts(check_token_files(two)) == []


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        pytest.param({"torch": "2.13.0"}, "warning", id="another torch"),
        pytest.param({"torch": "absent"}, "problem", id="none"),
        pytest.param({"rarecall": "0.0.9"}, "problem", id="another rarecall"),
        pytest.param({"rarecall's code": "00000000"}, "problem", id="another commit of it"),
    ],
)
def test_the_version_that_differs_is_named_with_its_node(theirs: dict[str, str], verdict: str) -> None:
    (found,) = check_versions(OWN, [node(), node("b", versions=OWN | theirs)])
    ((name, version),) = theirs.items()
    assert found.said == f"b: {name} {version}, the driver has {OWN[name]}"
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("gpus", "given", "expected"),
    [
        pytest.param({"seen": 2}, 2, ["ok"], id="as many"),
        pytest.param({"seen": 1}, 2, ["problem"], id="torch sees fewer"),
        pytest.param({"seen": 2}, 1, ["warning"], id="Ray gives out fewer"),
        pytest.param({"seen": 2, "failed": {1: "no kernel image"}}, 2, ["problem"], id="one fails"),
        pytest.param({"seen": 0, "error": "no torch"}, 0, ["problem"], id="torch does not load"),
    ],
)
def test_gpus_are_those_that_ray_gives_out(gpus: dict[str, Any], given: float, expected: list[str]) -> None:
    found = replace(node(gpus={"failed": {}, "error": ""} | gpus), gpus=given)
    assert verdicts(check_gpus([found])) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"disks": {"runs": room(0.5)}}, ["problem"], id="no room for a checkpoint"),
        pytest.param({"disks": {"runs": room(9)}}, ["warning"], id="little room"),
        pytest.param({"disks": {"Ray's temporary folder": room(40, 1000)}}, ["warning"], id="Ray: 96 % full"),
        pytest.param({"disks": {"runs": room(40, 1000)}}, ["ok"], id="96 % full, but large"),
        pytest.param({"disks": {"/dev/shm": room(0.06, 0.06)}}, ["warning"], id="a container's shm"),
        pytest.param({"cache": {"error": "read-only", "room": None}}, ["problem"], id="no cache folder"),
    ],
)
def test_disks_need_room(changes: dict[str, Any], expected: list[str]) -> None:
    assert verdicts(check_disks([node(**changes)])) == expected


@pytest.mark.parametrize(("free", "expected"), [(0.5, ["problem"]), (3, ["warning"]), (5, ["ok"])])
def test_a_worker_needs_memory(free: float, expected: list[str]) -> None:
    memory = {"total": 32 * GIB, "free": int(free * GIB)}
    assert verdicts(check_memory([node(memory=memory)])) == expected


@pytest.mark.parametrize(
    ("storage", "seen", "said"),
    [
        pytest.param(
            {"left": "x", "error": "", "sees": False}, True, "not the driver's folder", id="another"
        ),
        pytest.param(
            {"left": "x", "error": "", "sees": True}, False, "not the driver's folder", id="one way"
        ),
        pytest.param({"left": "", "error": "", "sees": False}, False, "not the driver's folder", id="none"),
        pytest.param(
            {"left": "", "error": "Permission denied", "sees": True}, False, "denied", id="no right"
        ),
    ],
)
def test_a_folder_that_is_not_common_is_a_problem(storage: dict[str, Any], seen: bool, said: str) -> None:
    (found,) = check_storage("/runs", [node(), replace(node("b", storage=storage), seen=seen)])
    assert found.verdict == "problem"
    assert found.said.startswith("b: ")
    assert said in found.said


def test_clocks_are_off_by_what_is_certain() -> None:
    assert skew_s(10.0, 10.1, 10.2) == 0
    assert skew_s(10.0, 13.0, 10.5) == 2.5
    assert skew_s(10.0, 8.0, 10.5) == -2
    wrong = [replace(node(), skew_s=skew) for skew in (-2.5, 400.0)]
    assert verdicts(check_clocks([node(), *wrong])) == ["warning", "problem"]


@pytest.mark.parametrize(
    ("addresses", "asks_token", "expected"),
    [
        pytest.param(["::"], False, "warning", id="every network, no token"),
        pytest.param(["10.0.0.1"], False, "warning", id="one network, no token"),
        pytest.param(["127.0.0.1", "::1"], False, "ok", id="the loopback"),
        pytest.param(["0.0.0.0"], True, "ok", id="a token"),
    ],
)
def test_ports_are_open_to_whom(addresses: list[str], asks_token: bool, expected: str) -> None:
    facts = {"listening": {6379: addresses}, "asks_token": asks_token}
    (found,) = check_ports([replace(node(**facts), ports={"GCS": 6379, "dashboard": 8265})])
    assert found.verdict == expected
    assert "dashboard" not in found.said


def test_tokens_guard_a_local_ray_unless_they_are_switched_off() -> None:
    assert check_local_ports("token").verdict == "ok"
    assert check_local_ports("disabled").verdict == "warning"
    assert verdicts(check_token_files([node(token_readable="/home/ann/.ray/auth_token")])) == ["warning"]
