"""What several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def coinrun_world(request) -> Path:
    """A bundle named CoinRun, trained on real frames and found by its name; kept between runs."""
    from tests.tiny_world import tiny_world
    from world_models.worlds import VARIABLE

    world = tiny_world(request.config.rootpath / ".pytest_cache" / "worlds")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(world.parent)
    yield world
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before
