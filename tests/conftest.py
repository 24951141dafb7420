"""What several test files share."""

import os
from pathlib import Path

import pytest
from filelock import FileLock


def pytest_configure(config):
    """Processes that run tests side by side share the cores: one thread each."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def coinrun_world(request) -> Path:
    """A bundle named CoinRun, trained on real frames and found by its name; kept between runs."""
    from tests.tiny_world import tiny_world
    from world_models.worlds import VARIABLE

    cache = request.config.rootpath / ".pytest_cache" / "worlds"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "training.lock"):
        world = tiny_world(cache)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(world.parent)
    yield world
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before
