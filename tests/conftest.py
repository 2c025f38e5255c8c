import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run the tests are shared: how long one example takes says nothing about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
# A shell's background jobs, and what they start, ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
# These assert on behalf of tests.
pytest.register_assert_rewrite("tiny_detector", "trials")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """This process as the driver of a local Ray with two CPUs, for the tests of one file."""
    from search.cluster.launch import connected  # noqa: PLC0415 - most test files need no Ray

    with connected(None, cpus=2):
        yield


@pytest.fixture
def forkserver() -> Iterator[None]:
    """Python starts processes as it does by itself from 3.14 on."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of 20 tiles to train on, five of them with a cluster, and 8 in val; only to be read."""
    from tiny_detector import draw_tiles  # noqa: PLC0415 - most test files need no detector

    return draw_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="session")
def three_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of 24, 10 and 6 tiles, each sixth of them with a cluster; only to be read."""
    from tiny_detector import draw_tiles  # noqa: PLC0415

    splits = {"train": 24, "val": 10, "test": 6}
    return draw_tiles(tmp_path_factory.mktemp("three_splits"), splits, rare_every=6)


@pytest.fixture(scope="session")
def searched_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A searched toy study whose trial 2 failed; only to be read."""
    from toy_experiments import search_with_a_failure  # noqa: PLC0415

    return search_with_a_failure(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="session")
def confirmed_study(searched_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a finished confirmation; only to be read."""
    from toy_experiments import confirmed_here  # noqa: PLC0415

    path = Path(shutil.copytree(searched_study, tmp_path_factory.mktemp("confirmed") / "study"))
    confirmed_here(path)
    return path
