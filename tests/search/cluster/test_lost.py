"""What is told of a worker that Ray has lost."""

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from search.cluster.lost import LONGEST, is_everywhere, is_node_lost, reason_of

IMPORT_FAILED = """The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
The actor is dead because its worker process has died. Worker exit detail: Traceback (most recent call last):
  File "python/ray/_raylet.pyx", line 2198, in ray._raylet.execute_task
RuntimeError: The actor with name ImplicitFunc failed to import on the worker. This may be because needed:

Traceback (most recent call last):
    actor_class = pickle.loads(pickled_class)
ModuleNotFoundError: No module named 'trainables'

An unexpected internal error occurred while the worker was executing a task."""
KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
\tpid: 7
The actor is dead because its worker process has died. Some common causes include: (1) the OOM killer"""


@pytest.mark.parametrize(
    ("error", "reason", "everywhere"),
    [
        pytest.param(
            RayActorError(error_msg=IMPORT_FAILED),
            "ModuleNotFoundError: No module named 'trainables'",
            True,
            id="the last exception of a traceback in Ray's message",
        ),
        pytest.param(
            RayActorError(error_msg=KILLED),
            "RayActorError: The actor is dead because its worker process has died.",
            False,
            id="Ray's own sentence without its guesses",
        ),
        pytest.param(
            RayTaskError("train", "Traceback …", OSError(5, "Input/output error", "/some/file")),
            "OSError: [Errno 5] Input/output error: '/some/file'",
            False,
            id="what the worker's code raised",
        ),
        pytest.param(
            RayTaskError("train", "Traceback …", ImportError("libGL.so.1: no such file")),
            "ImportError: libGL.so.1: no such file",
            True,
            id="a library that is missing",
        ),
        pytest.param(
            ActorDiedError(),
            "ActorDiedError: The actor died unexpectedly before finishing this task.",
            False,
            id="without a cause",
        ),
    ],
)
def test_the_reason_is_one_line_with_its_class(error: Exception, reason: str, everywhere: bool) -> None:
    assert reason_of(error) == reason
    assert is_everywhere(reason) == everywhere


def test_a_reason_has_an_end() -> None:
    assert len(reason_of(RuntimeError("x" * 10_000))) == LONGEST + 1


@pytest.mark.parametrize(
    ("error", "counts_for_nothing"),
    [
        (RayActorError(error_msg="The actor died because its node has died. Node Id: ab"), True),
        (ActorUnavailableError("RpcError: RPC error: Socket closed rpc_code: 14", b"a" * 16), True),
        (
            RayActorError(error_msg="The actor died because its node has died. Node Id: ab", preempted=True),
            False,
        ),
        (RayActorError(error_msg=KILLED), False),
        (RayActorError(error_msg=IMPORT_FAILED), False),
    ],
)
def test_a_node_that_is_gone_is_no_fault_of_its_runs(error: Exception, counts_for_nothing: bool) -> None:
    assert is_node_lost(error) == counts_for_nothing
