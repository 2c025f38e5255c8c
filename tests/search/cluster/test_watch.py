"""Work that is watched: it knows what its caller knows, and ends when it is asked to or its Ray is gone."""

import socket
import threading
import time

import pytest

from search.cluster.stopping import Stop
from search.cluster.watch import Watch, attended
from search.work.protocol import ClusterLost
from trainables.contract.trust import trusting_weights, trusts_weights

NOTHING = Watch({}, patience_s=1.0)


def nothing() -> None:
    """Leaves nothing."""


def test_watched_work_trusts_what_its_caller_trusts() -> None:
    found: list[bool] = []
    with trusting_weights(True):
        attended(lambda: found.append(trusts_weights()), nothing, NOTHING, Stop())
    attended(lambda: found.append(trusts_weights()), nothing, NOTHING, Stop())
    assert found == [True, False]


def test_what_the_work_raises_is_raised() -> None:
    def fails() -> None:
        raise ValueError("told to")

    with pytest.raises(ValueError, match="told to"):
        attended(fails, nothing, NOTHING, Stop())


def test_work_that_waits_for_a_ray_that_is_gone_is_left_alone() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    place = listening.getsockname()
    left, woken = threading.Event(), threading.Event()
    threading.Timer(1.5, listening.close).start()
    started = time.monotonic()
    with pytest.raises(ClusterLost, match=r"its GCS at 127\.0\.0\.1"):
        attended(woken.wait, left.set, Watch({"GCS": place}, patience_s=1.0), Stop())
    assert 2.0 < time.monotonic() - started < 10.0
    assert left.is_set()
    woken.set()


def test_an_error_of_work_whose_ray_is_gone_is_that_ray() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    place = listening.getsockname()
    listening.close()

    def fails() -> None:
        raise RuntimeError("the connection was closed")

    with pytest.raises(ClusterLost):
        attended(fails, nothing, Watch({"raylet": place}, patience_s=1.0), Stop())
