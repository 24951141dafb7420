"""Rewards an agent for what a world model cannot foresee (AutoExplore)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from genie_gym.wrappers.entropy_meter import EntropyMeter

__all__ = ["DynamicsEntropy", "DynamicsEntropyVector"]

ENTROPY, OWN_REWARD = "dynamics_entropy", "env_reward"


class DynamicsEntropyVector(VectorWrapper):
    """The reward becomes the world's uncertainty about the frame, 0 to 2, in all rows at once.

    The env's own reward stays in ``info["env_reward"]``, and ``info["dynamics_entropy"]`` has the
    uncertainty before scaling. All autoreset modes are understood; where a row begins an episode
    nothing is scored.

    Args:
        env: A vector env with the world's frames and actions.
        world: Name or path of the world.
        mode: "paper" gives two frames and predicts three in one pass, of which the last counts;
            "streaming" follows the episode and scores the next frame before it is seen.
        add: Whether to add to the env's own reward in place of replacing it.
        scale: Multiplies the uncertainty.
        device: Where to compute; "auto" takes a GPU if there is one.
        dtype: The type to compute in.
    """

    def __init__(
        self,
        env: VectorEnv,
        world: str | Path,
        *,
        mode: str = "paper",
        add: bool = False,
        scale: float = 1.0,
        device: str = "auto",
        dtype: str = "float32",
    ):
        super().__init__(env)
        self.add, self.scale = add, scale
        self.meter = _meter(env.num_envs, env.single_observation_space, env.single_action_space)(
            world, mode=mode, device=device, dtype=dtype
        )
        autoreset = env.metadata.get("autoreset_mode")
        if not isinstance(autoreset, AutoresetMode):
            raise ValueError(
                "the env does not say in metadata['autoreset_mode'] how it begins new episodes, "
                f"got {autoreset!r}"
            )
        self._autoreset = autoreset
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins new episodes."""
        frames, infos = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        rows = np.flatnonzero(mask)
        self._ended[rows] = False
        self.meter.begin(rows, frames[rows])
        return frames, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every row and scores what it led to."""
        frames, rewards, terminated, truncated, infos = self.env.step(actions)
        beginning = self._ended
        ended = np.asarray(terminated | truncated)
        live = np.flatnonzero(~beginning)
        same_step = self._autoreset is AutoresetMode.SAME_STEP
        reached = frames[live]
        if same_step:
            for place in np.flatnonzero(ended[live]):
                reached[place] = infos["final_obs"][live[place]]
        scores = np.zeros(self.num_envs)
        scores[live] = self.meter.score(live, np.asarray(actions)[live], reached)
        fresh = np.flatnonzero(ended if same_step else beginning)
        self.meter.begin(fresh, frames[fresh])
        columns = {ENTROPY: scores, OWN_REWARD: np.array(rewards, np.float64)}
        self._add_infos(infos, columns, ~beginning, ended if same_step else None)
        self._ended = np.zeros_like(ended) if same_step else ended.copy()
        own = columns[OWN_REWARD] if self.add else 0.0
        return frames, own + self.scale * scores, terminated, truncated, infos

    def _add_infos(
        self,
        infos: dict[str, Any],
        columns: dict[str, NDArray[np.float64]],
        stepped: NDArray[np.bool_],
        finals: NDArray[np.bool_] | None,
    ) -> None:
        """Adds info columns; of rows that ended and began again, to their final infos."""
        for key, values in columns.items():
            infos[key], infos[f"_{key}"] = values, stepped.copy()
            if finals is not None and finals.any():
                infos["final_info"][key] = values.copy()
                infos["final_info"][f"_{key}"] = finals.copy()
                infos[f"_{key}"] &= ~finals


class DynamicsEntropy(gym.Wrapper, RecordConstructorArgs):
    """`DynamicsEntropyVector` for a plain env; the arguments are the same."""

    def __init__(
        self,
        env: gym.Env,
        world: str | Path,
        *,
        mode: str = "paper",
        add: bool = False,
        scale: float = 1.0,
        device: str = "auto",
        dtype: str = "float32",
    ):
        options: dict[str, Any] = {"mode": mode, "device": device, "dtype": dtype}
        RecordConstructorArgs.__init__(self, world=world, add=add, scale=scale, **options)
        super().__init__(env)
        self.add, self.scale = add, scale
        self.meter = _meter(1, env.observation_space, env.action_space)(world, **options)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins a new episode."""
        frame, info = self.env.reset(seed=seed, options=options)
        self.meter.begin(np.arange(1), frame[None])
        return frame, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes one action and scores what it led to."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        score = float(self.meter.score(np.arange(1), np.reshape(action, 1), frame[None])[0])
        info = {**info, ENTROPY: score, OWN_REWARD: float(reward)}
        own = float(reward) if self.add else 0.0
        return frame, own + self.scale * score, terminated, truncated, info


def _meter(num_rows: int, frames: gym.Space, actions: gym.Space) -> Any:
    """How to make a meter for an env with these spaces."""
    if not isinstance(actions, gym.spaces.Discrete) or frames.shape is None:
        raise ValueError(f"expected frames and Discrete actions, got {frames} and {actions}")
    shape, count = frames.shape, int(actions.n)

    def make(world: str | Path, **options: Any) -> EntropyMeter:
        return EntropyMeter(num_rows, world, num_actions=count, frame_shape=shape, **options)

    return make
