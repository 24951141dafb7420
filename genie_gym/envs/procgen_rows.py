"""A thin adapter to the procgen library."""

from __future__ import annotations

import contextlib
import io
import platform
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_models.extras import MissingDependencyError, require

__all__ = ["ProcgenRows", "load_procgen"]

_MAX_STATE_SIZE = 2**20
_RESTART = -1  # the action that makes procgen abandon a level and start the next


def load_procgen() -> Any:
    """Imports procgen.

    Raises:
        MissingDependencyError: If procgen is not installed or has no build for this Python.
    """
    try:
        with _quiet_import():
            return require("procgen", extra="coinrun", what="CoinRun needs procgen2")
    except MissingDependencyError as missing:
        if _has_a_build():
            raise
        raise MissingDependencyError(_where_it_runs()) from missing


class ProcgenRows:
    """Several CoinRun games, called rows, that are stepped together in the calling thread.

    The arrays are views of procgen's own memory: `act`, `restart` and `load` overwrite them.

    Attributes:
        frames: Current frame of each row, ``(rows, 64, 64, 3)``.
        rewards: Reward of the last step.
        ended: Whether the last step ended an episode; the row then already shows the next episode.
        level_seed: Seed of the level that each row is in.
        stepped_level_seed: Seed of the level in which the last step was taken.
        level_complete: Whether the last step completed that level.

    Args:
        num: Number of rows.
        rand_seed: Seed for the sequence of levels in each row.
        pictures: Whether `picture` will be called.
        options: Further options for ``procgen.ProcgenGym3Env``.
    """

    def __init__(self, num: int, *, rand_seed: int = 0, pictures: bool = False, **options: Any):
        self._env = env = load_procgen().ProcgenGym3Env(
            num=num,
            env_name="coinrun",
            num_threads=0,
            rand_seed=rand_seed,
            render_mode="rgb_array" if pictures else None,
            **options,
        )
        self._buffer = env._ffi.new("char[]", _MAX_STATE_SIZE)
        self.frames: NDArray[np.uint8] = env._ob["rgb"]
        self.rewards: NDArray[np.float32] = env._rew
        self.ended: NDArray[np.bool_] = env._first
        self.level_seed: NDArray[np.int32] = env._info["level_seed"]
        self.stepped_level_seed: NDArray[np.int32] = env._info["prev_level_seed"]
        self.level_complete: NDArray[np.uint8] = env._info["prev_level_complete"]

    def act(self, actions: NDArray[np.int32]) -> None:
        """Steps all sub-envs with one action each: an index into procgen's 15 actions."""
        self._env.act(actions)

    def restart(self) -> None:
        """Abandons the current level of every row and starts the next one."""
        self.act(np.full(self._env.num, _RESTART, np.int32))

    def save(self, row: int) -> bytes:
        """Returns the state of a row's game, as bytes."""
        size = self._env.call_c_func("get_state", row, self._buffer, _MAX_STATE_SIZE)
        return bytes(self._env._ffi.buffer(self._buffer, size))

    def load(self, row: int, state: bytes) -> None:
        """Restores a row from a saved state and draws it; the other rows do not change."""
        self._env.call_c_func("set_state", row, state, len(state))

    def picture(self, state: bytes) -> NDArray[np.uint8]:
        """Returns a large image ``(512, 512, 3)`` of a saved game; overwrites row 0."""
        self.load(0, state)
        self._env.observe()
        return self._env._info["rgb"][0].copy()

    def close(self) -> None:
        """Frees the games."""
        self._env.close()


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Suppresses the output of procgen's dependencies and restores `sys.path` afterwards."""
    paths = list(sys.path)
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            sys.path[:] = paths


def _has_a_build() -> bool:
    here = (platform.python_implementation(), sys.version_info[:2], sys.platform)
    return here == ("CPython", (3, 11), "linux") and platform.machine() == "x86_64"


def _where_it_runs() -> str:
    return (
        "CoinRun needs procgen2, which is built only for CPython 3.11 on Linux x86-64; this is "
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}. Everything else works here. For CoinRun, run on a Linux x86-64 "
        "machine: python3.11 -m venv .venv && .venv/bin/pip install 'genie-gym[coinrun]'"
    )
