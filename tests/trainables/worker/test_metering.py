"""What a run takes of its node, measured beside it."""

import json
import subprocess
import sys
import time

import pynvml
import pytest
import torch

from trainables.contract.node import GPUS, Used
from trainables.worker.metering import EVERY_S, Meter, Samples, metered

MIB = 2**20
NODE = {"CPU": 2.0, "memory": 1e9}


TAKES = """
import json, time
import numpy as np
from trainables.worker.metering import EVERY_S, metered
node = {"CPU": 2.0, "memory": 1e9}
with metered(asked=True) as waiting:
    time.sleep(2 * EVERY_S)
    idle = waiting.used(node)
with metered(asked=True) as working:
    held = np.ones(200 * 2**20, dtype=np.uint8)
    until = time.process_time() + 2 * EVERY_S
    while time.process_time() < until:
        pass
    time.sleep(2 * EVERY_S)
    busy = working.used(node)
print(json.dumps([vars(idle), vars(busy)]))
"""


def test_cpus_and_memory_that_are_really_taken() -> None:
    # In a process of its own: this one may have threads of other tests.
    told = subprocess.run([sys.executable, "-c", TAKES], capture_output=True, text=True, check=True).stdout
    idle, busy = (Used(**one) for one in json.loads(told))
    assert busy.memory - idle.memory == pytest.approx(200 * MIB, rel=0.1)
    assert busy.cpus * busy.seconds > 2 * EVERY_S
    assert idle.cpus < busy.cpus
    assert (busy.gpu_busy, busy.gpu_memory, busy.gpu_total, busy.node) == (None, 0, 0, NODE)


def test_what_its_processes_take_counts_while_they_run_and_afterwards() -> None:
    code = "import time\nwhile time.process_time() < .4: pass\nprint(flush=True)\ninput()"
    pipe = subprocess.PIPE
    meters = Meter(), Meter()
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running = meters[0].used(NODE)
        child.communicate(b"\n")
    ended = meters[1].used(NODE)
    for used in (running, ended):
        assert used.cpus * used.seconds >= 0.4


def test_without_being_asked_nothing_is_measured() -> None:
    with metered(asked=False) as meter:
        assert meter is None


def test_a_meter_ends_with_its_run() -> None:
    with pytest.raises(KeyError), metered(asked=True) as meter:
        raise KeyError
    assert meter is not None
    assert not meter.running


def test_a_gpus_epoch_begins_when_it_is_busy_first() -> None:
    samples = Samples(began=(0.0, 0.0))
    for second, busy in enumerate([None, 0.0, 0.0, 0.4, 0.0, 0.8]):
        samples.add_gpu(busy, (float(second), second / 2))
    assert samples.began == (3.0, 1.5)
    assert samples.gpu_busy == [0.4, 0.0, 0.8]


class FakeGpu:
    """What torch says of a GPU of 80 GiB."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, says: int | Exception) -> None:
        self.says = says
        monkeypatch.setenv(GPUS, "1")
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "utilization", self.utilization)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (70 * 2**30, 80 * 2**30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 9 * 2**30)
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 12 * 2**30)

    def utilization(self) -> int:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def measured() -> Meter:
    meter = Meter()
    time.sleep(2 * EVERY_S)
    return meter


def test_of_a_gpu_how_busy_it_was_and_what_cuda_takes_beside_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeGpu(monkeypatch, 40)
    used = measured().used(NODE)
    assert used.gpu_busy == pytest.approx(0.4)
    assert (used.gpu_memory, used.gpu_total) == (13 * 2**30, 80 * 2**30)


@pytest.mark.parametrize(
    "why",
    [
        pytest.param(pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED), id="a part of a GPU"),
        pytest.param(RuntimeError("device_id 0 is out of range for torch.cuda"), id="one named by its UUID"),
        pytest.param(ModuleNotFoundError("No module named 'amdsmi'"), id="AMD's"),
    ],
)
def test_a_gpu_that_cannot_say_how_busy_it_is(why: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(monkeypatch, why)
    used = measured().used(NODE)
    assert used.gpu_busy is None
    assert used.gpu_total == 80 * 2**30


def test_a_run_on_the_cpu_asks_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(monkeypatch, AssertionError())
    monkeypatch.setenv(GPUS, "0")
    assert measured().used(NODE).gpu_busy is None


def test_what_goes_wrong_while_it_samples_is_told_where_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        measured().used(NODE)
