"""What several test files share."""

import os
from pathlib import Path

import pytest
from filelock import FileLock


def pytest_configure(config):
    """One thread per process: the tests' models are small, and processes share the cores.

    The games that a person has added on this machine are not there.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["GENIE_GYM_GAMES"] = str(config.rootpath / ".pytest_cache" / "no-games")


@pytest.fixture(scope="session")
def coinrun_world(request) -> Path:
    """A bundle named CoinRun, trained on real frames and found by its name; kept between runs."""
    from tests.tiny_world import tiny_world
    from world_models.worlds.find import VARIABLE

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


@pytest.fixture(scope="module")
def world(coinrun_world):
    """This bundle, opened as its dreams open it; a file may have a world of its own instead."""
    from genie_gym.envs.loaded_worlds import open_world

    return open_world(coinrun_world, dtype="float32")


@pytest.fixture(scope="module")
def one_thread():
    """Models this small are slower on two threads, and much slower beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(one_thread, tmp_path_factory):
    """Data of the moving square, with the runs and the world made from it."""
    from tests.square_runs import make_world

    return make_world(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """A dataset of random walks of the square, to measure fidelity on."""
    from tests.square_walks import write_walks

    return write_walks(tmp_path_factory.mktemp("square"))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder, which also takes the place of the user's caches, data and worlds."""
    from world_models.worlds.find import VARIABLE

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "worlds"))
    return tmp_path
