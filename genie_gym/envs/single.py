"""A single Gymnasium env, implemented as a vector env with one row (sub-env)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import error
from numpy.typing import NDArray

from genie_gym.envs.vector import FrameVectorEnv

__all__ = ["FrameEnv"]


class FrameEnv(gym.Env[NDArray[np.uint8], np.int64]):
    """A single env around a `FrameVectorEnv` with one row.

    Args:
        vector_env: The vector env, with one row and autoreset mode DISABLED; subclasses create it.
    """

    metadata = FrameVectorEnv.metadata

    def __init__(self, vector_env: FrameVectorEnv):
        self.vector_env = vector_env
        vector_env.alone = True
        self.metadata = vector_env.metadata
        self.render_mode = vector_env.render_mode
        self.observation_space = vector_env.single_observation_space
        self.action_space = vector_env.single_action_space

    @property
    def action_meanings(self) -> tuple[str, ...]:
        """The meaning of each action index."""
        return self.vector_env.action_meanings

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts a new episode."""
        super().reset(seed=seed)
        frames, infos = self.vector_env.reset_with_generator(
            self.np_random, seeded=seed is not None, options=options
        )
        return frames[0], _info(infos)

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Steps the env with one action."""
        frames, rewards, terminated, truncated, infos = self.vector_env.step(self._batched(action))
        return frames[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), _info(infos)

    def save_state(self) -> bytes:
        """Returns the state as bytes; `load_state` can restore it in any process."""
        return self.vector_env.save_state()[0]

    def load_state(self, state: bytes) -> NDArray[np.uint8]:
        """Restores a state saved by this env or by another env of the same kind.

        Returns:
            The frame of that state.
        """
        frames = self.vector_env.load_state([state])
        self.np_random = self.vector_env.np_random[0]
        return frames[0]

    def render(self) -> NDArray[np.uint8] | None:
        """Returns an image in mode "rgb_array"; shows a window in mode "human" and returns None."""
        pictures = self.vector_env.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """Closes the simulator; can be called more than once."""
        self.vector_env.close()

    def _batched(self, action: Any) -> NDArray[Any]:
        given = np.asarray(action)
        if given.shape not in ((), (1,)):
            raise error.InvalidAction(f"expected a single integer action, got {action!r}")
        return given.reshape(1)


def _info(infos: dict[str, Any]) -> dict[str, Any]:
    """Returns the info dict of the only sub-env, with scalars converted to Python values."""
    return {
        key: values[0].item() if values[0].ndim == 0 else values[0]
        for key, values in infos.items()
        if not key.startswith("_")
    }
