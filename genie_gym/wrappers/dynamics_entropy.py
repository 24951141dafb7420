"""Rewards an agent for frames that a world model cannot predict (AutoExplore)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv

from genie_gym.envs.loaded_worlds import check_looks
from genie_gym.wrappers.entropy_meter import EntropyMeter
from genie_gym.wrappers.intrinsic import OWN_REWARD, IntrinsicRewardVector
from world_models.worlds.card import WorldCard

__all__ = ["DynamicsEntropy", "DynamicsEntropyVector"]


class DynamicsEntropyVector(IntrinsicRewardVector):
    """Replaces the reward with a world model's uncertainty about the frame, from 0 to 2.

    ``info["env_reward"]`` is the env's own reward, and ``info["dynamics_entropy"]`` is the
    uncertainty before scaling. In mode "surprise", the score has no upper bound and is in
    ``info["dynamics_surprise"]``. All autoreset modes are supported. The first frame of an episode
    is not scored.

    Args:
        env: A vector env with the frames and actions that the world model was trained on.
        world: Name or path of the world model.
        mode: "paper" predicts three frames from two in one pass and scores the last of them;
            "streaming" follows the episode and scores the prediction of the next frame; "surprise"
            does the same, but scores how unlikely the actual frame was.
        add: Whether to add the uncertainty to the env's own reward instead of replacing it.
        scale: Factor by which the uncertainty is multiplied.
        device: Device to compute on; "auto" uses a GPU if there is one.
        dtype: Floating-point type to compute in; "auto" uses bfloat16 if it is faster.
    """

    meter: EntropyMeter

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
        spaces = env.single_observation_space, env.single_action_space
        meter = _meter(env.num_envs, *spaces, world, mode=mode, device=device, dtype=dtype)
        _check_looks(env.unwrapped.spec, meter.world.card)
        super().__init__(env, meter, add=add, scale=scale)


class DynamicsEntropy(gym.Wrapper, RecordConstructorArgs):
    """The same as `DynamicsEntropyVector` for a single env; takes the same arguments."""

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
        self.meter = _meter(1, env.observation_space, env.action_space, world, **options)
        _check_looks(env.unwrapped.spec, self.meter.world.card)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts a new episode."""
        frame, info = self.env.reset(seed=seed, options=options)
        self.meter.begin(np.arange(1), frame[None])
        return frame, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes one action and scores the resulting frame."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        score = float(self.meter.score(np.arange(1), np.reshape(action, 1), frame[None])[0])
        info = {**info, self.meter.name: score, OWN_REWARD: float(reward)}
        own = float(reward) if self.add else 0.0
        return frame, own + self.scale * score, terminated, truncated, info


def _meter(
    num_rows: int, frames: gym.Space, actions: gym.Space, world: str | Path, **options: Any
) -> EntropyMeter:
    """Makes the meter for an env with these observation and action spaces."""
    if not isinstance(actions, gym.spaces.Discrete) or frames.shape is None:
        raise ValueError(
            f"expected a Box observation space and a Discrete action space, got {frames} and "
            f"{actions}"
        )
    return EntropyMeter(
        num_rows, world, num_actions=int(actions.n), frame_shape=frames.shape, **options
    )


def _check_looks(spec: EnvSpec | None, card: WorldCard) -> None:
    """Raises ValueError if the env's frames look unlike the world model's training data."""
    if spec is not None and spec.id == card.env_id:
        check_looks(card, spec.kwargs, "the env")
