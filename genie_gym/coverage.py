"""How much of a game has been seen: distinct places, counted from the game's own state."""

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

# Bytes of the Atari 2600's memory that tell where the player is: the room, if there are several,
# then x and y. Other games are told apart by their screens.
POSITION_BYTES: dict[str, tuple[int, ...]] = {
    "Hero-Atari2600": (28, 27, 31),
    "Kangaroo-Atari2600": (17, 16),
    "MontezumaRevenge-Atari2600": (3, 42, 43),
}
_CELL = 4  # steps of x and y that count as one place
_SCREEN = (11, 8)  # columns and rows of a screen that is still told apart
_GREY_STEP = 32  # of 256


class Coverage:
    """Counts the distinct places that the rows of an env have been to.

    A place is, in CoinRun, a cell of a level's grid; in the games of `POSITION_BYTES` the player's
    position, four steps wide, and room; elsewhere, dreams included, a screen of 11x8 pixels in 8
    grey levels.

    Attributes:
        places: All places seen.
        furthest: Of CoinRun, how far to the right any row came in each level, in cells.
        finished: Of CoinRun, how many episodes ended at the coin.

    Args:
        env: The env itself, without wrappers.
    """

    def __init__(self, env: FrameVectorEnv):
        self._env = env
        self.places: set[Hashable] = set()
        self.furthest: dict[int, float] = {}
        self.finished = 0

    def see(self, frames: NDArray[np.uint8], infos: dict[str, Any]) -> None:
        """Counts where the rows are now; of rows that have just begun again, their beginning.

        Args:
            frames: What reset or step returned.
            infos: What it returned, too.
        """
        if isinstance(self._env, CoinRunVectorEnv):
            self._see_coinrun(self._env, infos)
        elif isinstance(self._env, RetroVectorEnv) and self._env.game.name in POSITION_BYTES:
            self._see_memory(self._env)
        else:
            self.places.update(map(screen, np.asarray(frames)))

    def _see_coinrun(self, env: CoinRunVectorEnv, infos: dict[str, Any]) -> None:
        levels = infos["level_seed"]
        for level, (x, y) in zip(levels.tolist(), env.agent_positions().tolist(), strict=True):
            self.places.add((level, int(x), int(y)))
            self.furthest[level] = max(x, self.furthest.get(level, 0.0))
        for told in (infos, infos.get("final_info", {})):
            if "level_complete" in told:
                self.finished += int((told["level_complete"] & told["_level_complete"]).sum())

    def _see_memory(self, env: RetroVectorEnv) -> None:
        *room, x, y = POSITION_BYTES[env.game.name]
        for row in range(env.num_envs):
            memory = env.memory(row)
            where = (int(memory[x]) // _CELL, int(memory[y]) // _CELL)
            self.places.add((*memory[room].tolist(), *where))


def screen(frame: NDArray[np.uint8]) -> bytes:
    """What is left of a frame to tell it from others."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, _SCREEN, interpolation=cv2.INTER_AREA)
    return (small // _GREY_STEP).astype(np.uint8).tobytes()
