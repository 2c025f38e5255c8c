"""Ray Tune asks for as many runs at once as an elastic cluster can hold."""

from typing import Any, cast

import pytest
from ray.autoscaler._private.local.config import prepare_local
from ray.tune.execution.tune_controller import _get_max_pending_trials
from ray.tune.search import SearchGenerator

from search.cluster import room
from search.cluster.searcher import WorkSearcher
from search.request.computing.resources import Resources
from search.work.allotting import Allotment
from search.work.protocol import Job, Work


def searcher_of(work: "_Taken", grown: dict[str, Any] | None = None) -> WorkSearcher:
    return WorkSearcher(cast(Work, work), Allotment(Resources(), []), grown)


@pytest.mark.parametrize(("per_node", "at_once"), [(8, 8), (2, 32), (0.01, room.MOST_AT_ONCE)])
def test_tune_has_as_many_runs_waiting_for_a_node_as_the_grown_cluster_holds(
    monkeypatch: pytest.MonkeyPatch, per_node: float, at_once: int
) -> None:
    monkeypatch.setenv(room.MAX_PENDING, "auto")
    grown = {
        "max_workers": 8,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}},
            "spot": {"resources": {"CPU": 8, "GPU": 4}, "max_workers": 20},
        },
    }
    found = room.runs_at_once(grown, Resources(cpu=per_node, gpu=0))
    room.ask_ahead(found)
    assert found == at_once
    assert _get_max_pending_trials(SearchGenerator(searcher_of(_Taken()))) == at_once


def test_no_bound_is_known_of_machines_of_ones_own_as_their_resources_are_not_stated() -> None:
    provider = {"type": "local", "head_ip": "head", "worker_ips": ["one", "two"]}
    prepared, _ = prepare_local({"cluster_name": "onprem", "provider": provider})
    assert room.runs_at_once(prepared, Resources()) is None
    work = _Taken()
    searcher = searcher_of(work, prepared)
    searcher._keys |= {"first": "key", "second": "another"}
    searcher.suggest("third")
    assert work.asked == 1


@pytest.mark.parametrize(("gpu", "on_each"), [(0.1, 10), (0.2, 5), (0.3, 3), (0.7, 1), (1, 1)])
def test_a_cluster_that_grows_holds_as_many_shares_of_each_gpu_as_fit(gpu: float, on_each: int) -> None:
    types = {"head": {"resources": {"CPU": 0}}, "spot": {"resources": {"CPU": 100, "GPU": 2}}}
    grown = {"max_workers": 3, "head_node_type": "head", "available_node_types": types}
    assert room.runs_at_once(grown, Resources(cpu=1, gpu=gpu)) == 3 * 2 * on_each


@pytest.mark.parametrize(("asked", "waiting"), [("auto", 1), ("8", 8)])
def test_a_cluster_of_which_nothing_is_known_has_as_many_waiting_as_was_asked(
    monkeypatch: pytest.MonkeyPatch, asked: str, waiting: int
) -> None:
    monkeypatch.setenv(room.MAX_PENDING, "5")  # of another cluster before it
    monkeypatch.setattr(room, "ASKED", asked)
    room.ask_ahead(room.runs_at_once(None, Resources()))
    assert _get_max_pending_trials(SearchGenerator(searcher_of(_Taken()))) == waiting


@pytest.mark.parametrize(("asked", "waiting"), [("auto", 2), ("8", 8)])
def test_on_kubernetes_who_launches_says_how_far_a_cluster_grows_and_a_person_how_many_wait(
    monkeypatch: pytest.MonkeyPatch, asked: str, waiting: int
) -> None:
    monkeypatch.setenv(room.MAX_PENDING, "auto")
    monkeypatch.setattr(room, "ASKED", asked)
    monkeypatch.setenv(room.AT_ONCE, "2")
    room.ask_ahead(room.runs_at_once(None, Resources()))
    work = _Taken()
    searcher = searcher_of(work)
    assert _get_max_pending_trials(SearchGenerator(searcher)) == waiting
    searcher._keys |= {"one": "a", "two": "b", "waiting": "c"}
    assert searcher.suggest("next") is None
    assert work.asked == 0


def test_no_more_than_one_run_is_asked_for_beyond_those_that_fit() -> None:
    work = _Taken()
    one = {
        "max_workers": 0,
        "head_node_type": "head",
        "available_node_types": {"head": {"resources": {"CPU": 1}}},
    }
    searcher = searcher_of(work, one)
    searcher._keys |= {"running": "key", "waiting": "another"}
    assert searcher.suggest("next") is None
    assert work.asked == 0


class _Taken:
    """A queue that counts how often it is asked, and has nothing."""

    def __init__(self) -> None:
        self.asked = 0

    def take(self) -> Job | None:
        self.asked += 1
        return None

    def exhausted(self) -> bool:
        return False


def test_the_nodes_to_come_are_known_before_they_are_there() -> None:
    types = {"head": {"resources": {"CPU": 4}}, "spot": {"resources": {"CPU": 8, "GPU": 1}, "min_workers": 0}}
    assert room.nodes_to_come({"available_node_types": types}) == [{"CPU": 4}, {"CPU": 8, "GPU": 1}]
    assert room.nodes_to_come(None) == []
