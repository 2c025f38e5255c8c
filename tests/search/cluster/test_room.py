"""What this machine has for a run, counted before a local Ray starts, against what that Ray then has."""

import json

import pytest
import ray

from search.cluster.launch import connected
from search.cluster.room import impossible_here, room_for
from search.request.computing.resources import Resources
from spaces.errors import UsageError


@pytest.mark.slow
def test_what_is_counted_before_is_what_a_local_ray_then_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"GPU": 1}))  # no test machine needs to have one
    with connected(None, Resources(cpu=1, gpu=1)):
        there = ray.cluster_resources()
    assert there["GPU"] == 1
    assert impossible_here(Resources(cpu=there["CPU"], gpu=1)) == []
    assert impossible_here(Resources(cpu=there["CPU"] + 1, gpu=2)) == [
        f"resources.cpu: a trial asks for {there['CPU'] + 1:g}, this machine has {there['CPU']:g}",
        "resources.gpu: a trial asks for 2, this machine has 1",
    ]


def test_no_ray_is_started_for_what_it_could_not_hold() -> None:
    too_much = connected(None, Resources(cpu=3), cpus=2)
    with pytest.raises(UsageError, match=r"resources\.cpu: a trial asks for 3, this machine has 2"), too_much:
        pass
    assert not ray.is_initialized()


def test_parts_of_a_cpu_and_of_a_gpu_are_counted_as_ray_counts_them() -> None:
    node = {"CPU": 1.0, "GPU": 2.0}
    assert room_for(Resources(cpu=0.1), [node, node], "2 nodes") == (20, "on 2 nodes, 2 CPUs hold 20")
    words = "on 1 node, 1 CPUs hold 5 and 2 GPUs hold 10"
    assert room_for(Resources(cpu=0.2, gpu=0.2), [node], "1 node") == (5, words)
