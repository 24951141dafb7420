"""The real game that runs next to a dream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from genie_gym.envs.make import make_rows
from genie_gym.envs.single import FrameEnv
from genie_gym.envs.vector import FrameVectorEnv
from genie_gym.play.moment import Moment

__all__ = ["RealGame", "SavedGame"]


@dataclass(frozen=True, kw_only=True)
class SavedGame:
    """A saved state of a real game, which `RealGame.load` restores."""

    state: bytes
    last: Moment


class RealGame:
    """An episode of the real game, with the same methods as a `Dream`.

    Args:
        env_id: Env id of the real game.
        env_kwargs: Keyword arguments of the env.
        seed: Seed of the episode.
    """

    def __init__(self, env_id: str, env_kwargs: dict[str, Any], seed: int):
        row = make_rows(
            env_id,
            1,
            autoreset_mode=AutoresetMode.DISABLED,
            max_episode_steps=None,  # only the game's own limit applies
            **env_kwargs,
        )
        assert isinstance(row, FrameVectorEnv)
        self.env = FrameEnv(row)
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """Start another episode."""
        frame, _ = self.env.reset(seed=seed)
        self.last = Moment(frame=np.array(frame))

    def step(self, action: int) -> Moment:
        """Take one action."""
        frame, reward, terminated, truncated, _ = self.env.step(action)
        self.last = Moment(
            frame=np.array(frame),
            reward=reward,
            total=self.last.total + reward,
            ended=terminated or truncated,
            truncated=truncated,
        )
        return self.last

    def save(self) -> SavedGame:
        """Return the state."""
        return SavedGame(state=self.env.save_state(), last=self.last)

    def load(self, saved: SavedGame) -> None:
        """Go back to a saved state."""
        self.env.load_state(saved.state)
        self.last = saved.last

    def close(self) -> None:
        """End the game."""
        self.env.close()
