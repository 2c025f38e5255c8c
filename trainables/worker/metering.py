"""What a run takes of its node, sampled from a thread beside it until its first epoch has ended.

Needs no torch, and asks a GPU only once the run has begun to use it. Knows nothing of Ray.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pynvml

from trainables.contract.node import Used, own_gpus

EVERY_S = 0.25  # a GPU says how busy it was in the last sixth of a second to second


@dataclass
class Samples:
    """What was seen so far.

    Attributes:
        began: When the run began to compute, which for a GPU is when it was seen busy first; wall and CPU
            seconds.
        memory: The most, bytes.
        gpu_busy: Each time, in [0, 1].
    """

    began: tuple[float, float]
    memory: int = 0
    gpu_busy: list[float] = field(default_factory=list)

    def add_gpu(self, busy: float | None, now: tuple[float, float]) -> None:
        """A GPU's sample; what came before the first in which it was busy is no part of an epoch."""
        if busy is None or (busy == 0 and not self.gpu_busy):
            return
        if not self.gpu_busy:
            self.began = now
        self.gpu_busy.append(busy)


class Meter:
    """Samples this process and those that it starts; `used` ends it."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._samples = Samples(self._now())
        self._stopped = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._sample, name="meter", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still samples."""
        return not self._stopped.is_set()

    def stop(self) -> None:
        """Sample no more."""
        self._stopped.set()
        self._thread.join()

    def used(self, node: Mapping[str, float]) -> Used:
        """What was used so far, on a node that has so much; it samples no more."""
        self.stop()
        if self._error is not None:
            raise self._error
        samples, (wall, cpu) = self._samples, self._now()
        seconds = wall - samples.began[0]
        gpu_memory, gpu_total = _gpu_memory()
        return Used(
            seconds=seconds,
            cpus=(cpu - samples.began[1]) / seconds,
            memory=samples.memory,
            gpu_busy=sum(samples.gpu_busy) / len(samples.gpu_busy) if samples.gpu_busy else None,
            gpu_memory=gpu_memory,
            gpu_total=gpu_total,
            node=dict(node),
        )

    def _sample(self) -> None:
        try:
            while True:
                self._samples.memory = max(self._samples.memory, sum(map(_memory, self._tree())))
                self._samples.add_gpu(_gpu_busy(), self._now())
                if self._stopped.wait(EVERY_S):
                    return
        except Exception as error:  # told by `used`, in the run's own thread
            self._error = error

    def _tree(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _now(self) -> tuple[float, float]:
        """Wall and CPU seconds; what a process has taken that has ended is its parent's."""
        cpu = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                cpu += sum(process.cpu_times()[:4])  # its own and its ended children's, user and system
        return time.monotonic(), cpu


@contextmanager
def metered(*, asked: bool) -> Iterator[Meter | None]:
    """A meter in the context, if it is asked for."""
    meter = Meter() if asked else None
    try:
        yield meter
    finally:
        if meter is not None:
            meter.stop()


def _memory(process: psutil.Process) -> int:
    """Bytes of a process that no file backs, shared ones by its part; 0 of one that has ended.

    What it reads from mapped files can be dropped, and is there once for all runs of a node.
    """
    try:
        if not Path("/proc/self/smaps_rollup").exists():  # not Linux
            return int(process.memory_info().rss)
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))


def _gpu_busy() -> float | None:
    """Share of the last moment in which this run's GPU computed; None if it has none or won't say."""
    torch = sys.modules.get("torch")
    if own_gpus() == 0 or torch is None or not torch.cuda.is_initialized():
        return None
    try:
        return float(torch.cuda.utilization() / 100)
    # Of a part of a GPU (MIG) nobody knows, or torch does not find it; an AMD one may lack its library.
    except (pynvml.NVMLError, RuntimeError, ModuleNotFoundError):
        return None


def _gpu_memory() -> tuple[int, int]:
    """Bytes of this run's GPU: at the peak taken, with CUDA's own; and in all."""
    torch = sys.modules.get("torch")
    if own_gpus() == 0 or torch is None or not torch.cuda.is_initialized():
        return 0, 0
    free, total = torch.cuda.mem_get_info()
    beside = total - free - torch.cuda.memory_reserved()
    return torch.cuda.max_memory_reserved() + beside, total
