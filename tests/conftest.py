from collections.abc import Iterator

import pytest
from hypothesis import settings

# Machines that run the tests are shared: how long one example takes says nothing about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """This process as the driver of a local Ray with two CPUs, for the tests of one file."""
    from search.cluster.launch import connected  # noqa: PLC0415 - most test files need no Ray

    with connected(None, cpus=2):
        yield
