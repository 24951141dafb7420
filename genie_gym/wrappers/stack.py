"""Stacks the last few frames, so that an agent can see motion."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from genie_gym.envs.arguments import masked_rows

__all__ = ["StackFramesVector", "stacked"]

_SAME_STEP = AutoresetMode.SAME_STEP


class StackFramesVector(VectorWrapper):
    """Stacks the last `num` frames along the channel axis, with the newest frame last.

    In a dream, the first stack consists of the real frames that the dream starts from. In the real
    game, it repeats the first frame.

    Args:
        env: A vector env whose observations are frames ``(H, W, C)``.
        num: Number of frames to stack.
    """

    def __init__(self, env: VectorEnv, num: int):
        super().__init__(env)
        frame = env.single_observation_space
        if num < 1 or not isinstance(frame, spaces.Box) or len(frame.shape) != 3:
            raise ValueError(
                f"expected num of at least 1 and frames (H, W, C), got num={num} and {frame}"
            )
        self._num, self._same_step = num, env.metadata.get("autoreset_mode") is _SAME_STEP
        shape = (*frame.shape[:2], num * frame.shape[2])
        self.single_observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._stacks = np.zeros((self.num_envs, *shape), np.uint8)
        self._ended = np.zeros(self.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts new episodes."""
        # Gymnasium's vector envs remove the mask from the options.
        rows = masked_rows((options or {}).get("reset_mask"), self.num_envs)
        frames, infos = self.env.reset(seed=seed, options=options)
        self._begin(rows, frames)
        self._ended[rows] = False
        return self._stacks.copy(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps all sub-envs."""
        frames, rewards, terminated, truncated, infos = self.env.step(actions)
        ended = np.asarray(terminated | truncated)
        newest = frames
        if self._same_step and ended.any():
            newest = frames.copy()
            for row in np.flatnonzero(ended):
                newest[row] = infos["final_obs"][row]
        channels = frames.shape[-1]
        self._stacks = np.concatenate((self._stacks[..., channels:], newest), -1)
        if self._same_step:
            for row in np.flatnonzero(ended):
                infos["final_obs"][row] = self._stacks[row].copy()
            self._begin(np.flatnonzero(ended), frames)
        else:
            self._begin(np.flatnonzero(self._ended), frames)
            self._ended = ended
        return self._stacks.copy(), rewards, terminated, truncated, infos

    def _begin(self, rows: NDArray[np.intp], frames: NDArray[np.uint8]) -> None:
        prompts = getattr(self.env.unwrapped, "prompts", None)
        for row in rows:
            known = frames[row, None] if prompts is None else prompts[row]
            self._stacks[row] = stacked(known, self._num)


def stacked(frames: NDArray[np.uint8], num: int) -> NDArray[np.uint8]:
    """Stacks the last `num` frames of ``(k, H, W, C)``; repeats the first one if k is smaller."""
    frames = frames[-num:]
    missing = num - len(frames)
    return np.concatenate([*frames[:1].repeat(missing, 0), *frames], -1)
