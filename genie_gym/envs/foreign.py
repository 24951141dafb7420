"""Adapts Gymnasium envs that have a `Discrete` action space and images to this package."""

from __future__ import annotations

import json
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym.actions import ActionSet
from genie_gym.envs.frames import fit_square
from genie_gym.envs.rows import Rows, RowsOutcome
from genie_gym.envs.vector import FrameVectorEnv

__all__ = ["ForeignVectorEnv", "check_actions_of"]

_MAX_SEED = 2**31 - 1
_SMALLEST = 16  # minimum image side in pixels; MiniGrid's smaller arrays are not images


class ForeignVectorEnv(FrameVectorEnv):
    """A vector env for any Gymnasium env from outside this package.

    Its rows (sub-envs) are stepped one after another. Frames are the env's observations if these
    are images, otherwise its rendered images. They are padded with black to a square and resized.

    A saved state holds the episode's seed and actions. Loading it replays the episode, so the env
    must be deterministic given the seed and the actions.

    Args:
        env_id: Id of the env, with or without the module that registers it, e.g.
            ``"minigrid:MiniGrid-Empty-5x5-v0"``.
        num_envs: Number of sub-envs, called rows.
        frames: What to use as frames: "observation", "render", or "auto" for the observations if
            they are images and the rendered images otherwise.
        frame_size: Height and width of a frame, in pixels.
        action_set: If given, must be the name of the env's own action set.
        autoreset_mode: When a row starts its next episode after the previous one has ended.
        max_episode_steps: Steps after which a row is truncated, if the env's own limit is not
            reached before; None for the env's own limit alone.
        render_mode: None, "rgb_array" or "human".
        **kwargs: The env's own arguments.

    Raises:
        ValueError: If the action space is not `Discrete`, or the env has no images.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        frames: Literal["auto", "observation", "render"] = "auto",
        frame_size: int = 64,
        action_set: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ):
        if frames not in ("auto", "observation", "render"):
            raise ValueError(f'frames must be "auto", "observation" or "render", got {frames!r}')
        rendered, kwargs = _source(env_id, frames, kwargs)
        self._envs = [_make(env_id, kwargs)]
        actions = check_actions_of(self._envs[0], env_id)
        if action_set not in (None, actions.name):
            raise ValueError(f"{env_id} has the action set {actions.name!r}, got {action_set!r}")
        super().__init__(
            num_envs,
            actions=actions,
            kind=f"{env_id}({', '.join(f'{k}={v!r}' for k, v in sorted(kwargs.items()))})",
            frame_size=frame_size,
            fps=max(1, int(self._envs[0].metadata.get("render_fps") or 15)),
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        )
        self._envs += [_make(env_id, kwargs) for _ in range(num_envs - 1)]
        self._rendered = rendered
        self._first_action = int(self._envs[0].action_space.start)  # type: ignore[attr-defined]
        self._seeds = [0] * num_envs
        self._played: list[list[int]] = [[] for _ in range(num_envs)]

    # Methods of the base class -------------------------------------------------------------

    def _begin_rows(self, rows: Rows, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
        for row in rows:
            self._begin_row(row, int(self.np_random[row].integers(_MAX_SEED)))
        return {}

    def _step_rows(self, rows: Rows, actions: NDArray[np.int64]) -> RowsOutcome:
        outcomes = [
            self._step_row(row, int(action)) for row, action in zip(rows, actions, strict=True)
        ]
        rewards, terminated, truncated = (
            np.array(column) for column in zip(*outcomes, strict=True)
        )
        return RowsOutcome(
            rewards=rewards.astype(np.float64),
            terminated=terminated.astype(np.bool_),
            truncated=truncated.astype(np.bool_),
        )

    def _save_row(self, row: int) -> bytes:
        return json.dumps({"seed": self._seeds[row], "actions": self._played[row]}).encode()

    def _load_rows(self, rows: Rows, state: bytes) -> None:
        saved = json.loads(state)
        for row in rows:
            self._begin_row(row, saved["seed"])
            for action in saved["actions"]:
                self._step_row(row, action)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes all sub-envs."""
        super().close_extras(**kwargs)
        for env in self._envs:
            env.close()

    # Helpers -------------------------------------------------------------------------------

    def _begin_row(self, row: int, seed: int) -> None:
        observation, _ = self._envs[row].reset(seed=seed)
        self._seeds[row], self._played[row] = seed, []
        self._draw(row, observation)

    def _step_row(self, row: int, action: int) -> tuple[float, bool, bool]:
        step = self._envs[row].step(action + self._first_action)
        observation, reward, terminated, truncated, _ = step
        self._played[row].append(action)
        self._draw(row, observation)
        return float(reward), bool(terminated), bool(truncated)

    def _draw(self, row: int, observation: Any) -> None:
        picture = np.asarray(self._envs[row].render() if self._rendered else observation)
        if picture.ndim == 2:
            picture = picture[..., None]
        if picture.shape[-1] == 1:
            picture = picture.repeat(3, -1)
        self.frames[row] = fit_square(picture.astype(np.uint8, copy=False), self.frames.shape[1])


def check_actions_of(env: gym.Env, env_id: str) -> ActionSet:
    """Returns the named actions of an env.

    Raises:
        ValueError: If the action space is not `Discrete`.
    """
    space = env.action_space
    if not isinstance(space, Discrete):
        raise ValueError(
            f"{env_id} has action space {space}: only Discrete action spaces are supported"
        )
    num, inner = int(space.n), env.unwrapped
    names = [f"ACTION-{number}" for number in range(num)]
    if hasattr(inner, "get_action_meanings"):  # as in ALE
        names = [str(name).upper() for name in inner.get_action_meanings()]
    elif hasattr(inner, "actions") and hasattr(inner.actions, "__members__"):  # as in MiniGrid
        names = [str(name).upper() for name in inner.actions.__members__]
    if len(set(names[:num])) < num:
        names = [f"ACTION-{number}" for number in range(num)]
    return ActionSet(name=f"{env_id.rpartition(':')[2]}-{num}", meanings=tuple(names[:num]))


def _make(env_id: str, kwargs: dict[str, Any]) -> gym.Env:
    try:
        return gym.make(env_id, disable_env_checker=True, **kwargs)
    except TypeError as fault:
        if not kwargs:
            raise
        raise ValueError(f"{env_id} does not accept the arguments {kwargs}: {fault}") from fault


def _source(env_id: str, frames: str, kwargs: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Returns whether frames are rendered, and the arguments to make the env with."""
    env = _make(env_id, kwargs)
    space, modes = env.observation_space, env.metadata.get("render_modes") or []
    env.close()
    if frames == "observation" or frames == "auto" and _is_picture(space):
        if not _is_picture(space):
            raise ValueError(f"the observations of {env_id} are not images: {space}")
        return False, kwargs
    if "rgb_array" not in modes:
        if _is_picture(space):
            raise ValueError(f"{env_id} has no render mode 'rgb_array': use frames='observation'")
        raise ValueError(
            f"{env_id} has no images: its observation space is {space}, and it has no render mode "
            "'rgb_array'"
        )
    return True, {**kwargs, "render_mode": "rgb_array"}


def _is_picture(space: gym.Space) -> bool:
    return (
        isinstance(space, Box)
        and space.dtype == np.uint8
        and (len(space.shape) == 2 or len(space.shape) == 3 and space.shape[-1] in (1, 3))
        and min(space.shape[:2]) >= _SMALLEST
    )
