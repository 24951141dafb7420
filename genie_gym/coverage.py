"""Counts the distinct places in a game that have been visited."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.coinrun import CoinRunVectorEnv
from genie_gym.envs.retro import RetroVectorEnv
from genie_gym.envs.vector import FrameVectorEnv

__all__ = ["POSITION_BYTES", "Coverage"]

# Where the Atari 2600's memory holds the player's position: the addresses of the room, if the game
# has several, and of x and y. In games not listed here, places are distinguished by their screens.
POSITION_BYTES: dict[str, tuple[int, ...]] = {
    "Hero-Atari2600": (28, 27, 31),
    "Kangaroo-Atari2600": (17, 16),
    "MontezumaRevenge-Atari2600": (3, 42, 43),
}
_CELL = 4  # width and height of a place, in units of x and y
_SCREEN = (11, 8)  # columns and rows that a screen is reduced to
_GREY_STEP = 32  # width of a grey level; 256 / 32 = 8 levels


class Coverage:
    """Counts the distinct places that the rows (sub-envs) of an env have visited.

    In CoinRun, a place is a cell of a level's grid. In the games in `POSITION_BYTES`, it is the
    room and the player's position, in cells of 4x4. Everywhere else, including in dreams, it is a
    screen reduced to 11x8 pixels and 8 grey levels.

    Attributes:
        places: All places seen.
        furthest: For each level, the furthest column that any row reached (CoinRun only).
        finished: Number of episodes that ended at the coin (CoinRun only).

    Args:
        env: The unwrapped env.
    """

    def __init__(self, env: FrameVectorEnv):
        self._env = env
        self.places: set[Hashable] = set()
        self.furthest: dict[int, float] = {}
        self.finished = 0

    def see(
        self,
        frames: NDArray[np.uint8],
        infos: dict[str, Any],
        first: NDArray[np.bool_] | None = None,
    ) -> None:
        """Adds the current places of the rows; call it after every `reset` and `step`.

        Args:
            frames: The frames that `reset` or `step` returned.
            infos: The infos that `reset` or `step` returned.
            first: Mask of the rows that were still in their first episode before this step. If
                given, only these rows are counted, and the env must be in autoreset mode SAME_STEP.
        """
        counted, shown = np.ones(self._env.num_envs, np.bool_), infos.get("_final_obs")
        if first is not None:
            counted = first if shown is None else first & ~shown  # the rest show their next episode
        rows = np.flatnonzero(counted)
        if isinstance(self._env, CoinRunVectorEnv):
            self._see_coinrun(self._env, infos, rows)
            for info in (infos, infos.get("final_info", {})):
                if "level_complete" in info:
                    complete = info["level_complete"] & info["_level_complete"]
                    self.finished += int((complete if first is None else complete & first).sum())
        elif isinstance(self._env, RetroVectorEnv) and self._env.game.name in POSITION_BYTES:
            self._see_memory(self._env, rows)
        else:
            self.places.update(map(screen, np.asarray(frames)[rows]))

    def _see_coinrun(
        self, env: CoinRunVectorEnv, infos: dict[str, Any], rows: NDArray[np.intp]
    ) -> None:
        levels, positions = infos["level_seed"][rows], env.agent_positions()[rows]
        for level, (x, y) in zip(levels.tolist(), positions.tolist(), strict=True):
            self.places.add((level, int(x), int(y)))
            self.furthest[level] = max(x, self.furthest.get(level, 0.0))

    def _see_memory(self, env: RetroVectorEnv, rows: NDArray[np.intp]) -> None:
        *room, x, y = POSITION_BYTES[env.game.name]
        for row in rows.tolist():
            memory = env.memory(row)
            where = (int(memory[x]) // _CELL, int(memory[y]) // _CELL)
            self.places.add((*memory[room].tolist(), *where))


def screen(frame: NDArray[np.uint8]) -> bytes:
    """Reduces a frame to a small greyscale image, as bytes."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, _SCREEN, interpolation=cv2.INTER_AREA)
    return (small // _GREY_STEP).astype(np.uint8).tobytes()
