"""How much of a node each run gets, by what the first one used of it."""

import pytest

from search.request.computing.resources import Choice, Resources
from search.work.allotting import Allotment, Auto, at_first, chosen, same_kind
from trainables.contract.node import Used

GIB = 2**30
H100 = {"CPU": 16.0, "GPU": 1.0, "memory": 100.0 * GIB, "accelerator_type:H100": 1.0}
EIGHT = {"CPU": 128.0, "GPU": 8.0, "memory": 800.0 * GIB}
NO_GPU = {"CPU": 8.0, "memory": 32.0 * GIB}


def on_gpu(**changes: object) -> Used:
    """A run that keeps a GPU of 80 GiB half busy and takes little of all else."""
    plain = {
        "seconds": 60.0,
        "cpus": 1.5,
        "memory": 4 * GIB,
        "gpu_busy": 0.5,
        "gpu_memory": 8 * GIB,
        "gpu_total": 80 * GIB,
        "node": H100,
    }
    return Used.model_validate(plain | changes)


def on_cpu(**changes: object) -> Used:
    plain = {"cpus": 1.0, "memory": GIB, "gpu_busy": None, "gpu_memory": 0, "gpu_total": 0, "node": NO_GPU}
    return on_gpu(**plain | changes)


@pytest.mark.parametrize(
    ("used", "cpu", "gpu", "limit"),
    [
        pytest.param(on_gpu(), 8, 0.5, "time", id="two fill what one keeps half busy"),
        pytest.param(on_gpu(gpu_busy=0.9), 16, 1, "time", id="two that are busy gain nothing"),
        pytest.param(on_gpu(gpu_busy=0.85), 16, 1, "time", id="exactly as busy as makes sense"),
        pytest.param(on_gpu(gpu_busy=0.84), 8, 0.5, "time", id="and a little less"),
        pytest.param(on_gpu(gpu_busy=0.3), 5, 0.3333, "time", id="shares of which three fit"),
        pytest.param(on_gpu(gpu_busy=0.22), 4, 0.25, "time", id="four"),
        pytest.param(on_gpu(gpu_busy=0.0, gpu_memory=GIB), 2, 0.125, "tried", id="never more than eight"),
        pytest.param(on_gpu(gpu_busy=0.1, gpu_memory=26 * GIB), 8, 0.5, "GPU's memory", id="with head-room"),
        pytest.param(on_gpu(gpu_busy=0.1, gpu_memory=70 * GIB), 16, 1, "GPU's memory", id="one fills it"),
        pytest.param(on_gpu(gpu_busy=0.1, cpus=5.0), 5, 0.3333, "CPUs", id="loaders must keep up"),
        pytest.param(on_gpu(gpu_busy=0.1, cpus=20.0), 16, 1, "CPUs", id="the loaders are what it waits for"),
        pytest.param(on_gpu(gpu_busy=0.1, memory=30 * GIB), 8, 0.5, "node's memory", id="beside the GPU"),
        pytest.param(on_gpu(gpu_busy=0.5, node=EIGHT), 8, 0.5, "time", id="of each of eight GPUs"),
        pytest.param(
            on_gpu(node=EIGHT, memory=50 * GIB), 16, 1, "node's memory", id="which share the memory"
        ),
        pytest.param(on_gpu(gpu_busy=None), 16, 1, "does not say", id="a GPU that cannot say"),
        pytest.param(on_cpu(), 1, 0, "CPUs", id="a CPU each"),
        pytest.param(on_cpu(cpus=0.3), 0.5, 0, "CPUs", id="two that wait share one"),
        pytest.param(on_cpu(memory=6 * GIB), 2, 0, "memory", id="four fit, with two CPUs each"),
        pytest.param(on_cpu(memory=30 * GIB), 8, 0, "memory", id="one fits, with all CPUs"),
        pytest.param(on_cpu(node={"CPU": 2.0}), 1, 0, "CPUs", id="nobody knows how much memory"),
    ],
)
def test_what_is_chosen_and_why(used: Used, cpu: float, gpu: float, limit: str) -> None:
    resources, why = chosen(used)
    assert (resources.cpu, resources.gpu) == (cpu, gpu)
    assert limit in why
    assert "\n" not in why


def test_as_many_fit_as_it_says() -> None:
    for busy in (1.0, 0.6, 0.4, 0.25, 0.2, 0.15, 0.13, 0.01):
        resources, why = chosen(on_gpu(gpu_busy=busy, cpus=0.5))
        runs = int(why.split()[0])
        assert runs * resources.gpu <= 1
        assert runs * resources.cpu <= 16
        assert (runs + 1) * resources.gpu > 1


def test_the_first_run_has_a_whole_gpu_with_its_part_of_the_cpus() -> None:
    head = {"CPU": 4.0}
    assert at_first([head, EIGHT]) == Resources(cpu=16, gpu=1)
    assert at_first([H100, {"CPU": 8.0, "GPU": 1.0}]) == Resources(cpu=8, gpu=1)  # either can hold it
    assert at_first([{"CPU": 2.0, "GPU": 4.0}]) == Resources(cpu=1, gpu=1)
    assert at_first([head]) == at_first([]) == Resources(cpu=1)
    assert at_first([head], needs_gpu=True) == Resources(cpu=1, gpu=1)  # another node may come


def test_what_was_chosen_on_a_node_of_the_same_kind_is_kept() -> None:
    kept: list[Choice] = []
    known: Choice | None = None
    auto = Auto(lambda: known, kept.append)
    first = Allotment(auto, [H100])
    assert (first.resources, first.measures) == (Resources(cpu=16, gpu=1), True)
    first.used(on_gpu())
    assert (first.resources, first.measures) == (Resources(cpu=8, gpu=0.5), False)
    assert [choice.resources for choice in kept] == [first.resources]
    first.used(on_gpu(gpu_busy=0.1))  # an attempt that was made again
    assert len(kept) == 1
    known = kept[0]
    again = Allotment(auto, [{"CPU": 4.0}, H100])
    assert (again.resources, again.measures) == (first.resources, False)
    assert Allotment(auto, [EIGHT]).measures
    assert Allotment(auto, [H100 | {"GPU": 2.0}]).measures


def test_the_kind_of_a_node_that_is_yet_to_come_is_not_known() -> None:
    assert same_kind(H100, {"CPU": 16.0, "GPU": 1.0})
    assert not same_kind(H100, {"CPU": 16.0, "GPU": 1.0, "accelerator_type:L4": 1.0})
    assert not same_kind(H100, {"CPU": 8.0, "GPU": 1.0})


def test_what_was_asked_is_never_measured() -> None:
    asked = Allotment(Resources(cpu=3), [H100])
    assert not asked.measures
    asked.used(on_gpu())
    assert asked.resources == Resources(cpu=3)
