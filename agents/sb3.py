"""Adapts the vector envs of this package to Stable-Baselines3's `VecEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from genie_gym.envs.make import make_rows
from genie_gym.wrappers.stack import StackFramesVector

__all__ = ["SB3VecEnv", "make_sb3_env"]


def make_sb3_env(
    env_id: str, num_envs: int, *, stack: int = 1, reward_scale: float = 1.0, **kwargs: Any
) -> SB3VecEnv:
    """Makes an env by its id, as a Stable-Baselines3 env.

    Args:
        env_id: Id of the env, such as ``"Procgen/CoinRun-v0"`` or ``"GenieRedux/CrazyClimber-v0"``.
        num_envs: Number of sub-envs, called rows.
        stack: Number of frames per observation; see `StackFramesVector`.
        reward_scale: Factor by which rewards are multiplied.
        **kwargs: Arguments of the env, and ``max_episode_steps``. For a dream, `starts` is a
            dataset from which all episodes start, including episodes after an autoreset.
    """
    mode = AutoresetMode.SAME_STEP
    env = make_rows(env_id, num_envs, autoreset_mode=mode, **kwargs)
    return SB3VecEnv(StackFramesVector(env, stack) if stack > 1 else env, reward_scale=reward_scale)


class SB3VecEnv(VecEnv):
    """Adapter from a Gymnasium vector env to Stable-Baselines3.

    When a step ends an episode, Stable-Baselines3 expects that step to return the first frame of
    the next one, so the env must be in autoreset mode SAME_STEP. The env's ``final_obs`` becomes
    ``terminal_observation``, and a truncation becomes ``TimeLimit.truncated``. The sub-envs are
    called rows.

    Args:
        env: The vector env; closing this env closes it too.
        endless: Report every termination as a truncation. With a reward for exploration,
            terminations would teach the agent to avoid everything that ends an episode.
        reward_scale: Factor by which rewards are multiplied.
    """

    def __init__(self, env: VectorEnv, endless: bool = False, reward_scale: float = 1.0):
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"Stable-Baselines3 requires autoreset mode SAME_STEP, but the env has {mode}: use "
                "gym.make_vec(..., autoreset_mode='SameStep') or agents.sb3.make_sb3_env(id, n)"
            )
        self.env, self._endless, self._reward_scale = env, endless, reward_scale
        self.render_mode = env.render_mode
        self._actions = np.zeros(env.num_envs, np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> np.ndarray:
        """Resets all rows with the seeds from `seed` and the options from `set_options`."""
        given = [options for options in self._options if options]
        if any(options != given[0] for options in given):
            raise ValueError(
                "reset options must be the same for all sub-envs, got different ones: use "
                "set_options({...})"
            )
        seeds = list(self._seeds)
        seed: Any = None if all(one is None for one in seeds) else seeds
        frames, infos = self.env.reset(seed=seed, options=given[0] if given else None)
        self.reset_infos = [_info_of(infos, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return frames

    def step_async(self, actions: np.ndarray) -> None:
        """Stores the actions for `step_wait`."""
        self._actions = np.asarray(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Steps every row."""
        frames, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = terminated | truncated
        row_infos = [_info_of(infos, row) for row in range(self.num_envs)]
        for row in np.flatnonzero(dones):
            self.reset_infos[row] = row_infos[row]
            row_infos[row] = {
                **_info_of(infos["final_info"], row),
                "terminal_observation": infos["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row]) or self._endless,
            }
        return frames, (rewards * self._reward_scale).astype(np.float32), dones, row_infos

    def close(self) -> None:
        """Closes the env."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Returns the rendered frame of each row; None unless ``render_mode="rgb_array"``."""
        pictures: Any = self.env.render() if self.render_mode == "rgb_array" else None
        return list(pictures) if pictures is not None else [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of the env, repeated per index, because all rows share the env."""
        return [getattr(self.env.unwrapped, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the env. All rows share it, so `indices` must cover all rows."""
        self._all_rows(indices, f"set_attr({attr_name!r})")
        setattr(self.env.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Calls a method of the env; a result with one entry per row is returned unchanged."""
        self._all_rows(indices, f"env_method({method_name!r})")
        result = getattr(self.env.unwrapped, method_name)(*args, **kwargs)
        by_row = isinstance(result, list) and len(result) == self.num_envs
        return result if by_row else [result] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Returns whether the env is wrapped in this Gymnasium vector wrapper class."""
        env: Any = self.env
        wrapped = isinstance(env, wrapper_class)
        while not wrapped and env is not env.unwrapped:
            env = env.env
            wrapped = isinstance(env, wrapper_class)
        return [wrapped] * len(list(self._get_indices(indices)))

    def _all_rows(self, indices: VecEnvIndices, call: str) -> None:
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"{call} cannot apply to some sub-envs only, because all sub-envs belong to one "
                "vector env: omit indices"
            )


def _info_of(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """Returns the info dict of one row, with scalars converted to Python values."""
    return {
        key: values[row].item() if np.ndim(values[row]) == 0 else values[row]
        for key, values in infos.items()
        if f"_{key}" in infos and key not in ("final_obs", "final_info") and infos[f"_{key}"][row]
    }
