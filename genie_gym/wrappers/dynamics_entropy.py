"""Rewards an agent for what a world model cannot foresee (AutoExplore)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv

from genie_gym.registration import LOOKS
from genie_gym.wrappers.entropy_meter import EntropyMeter
from genie_gym.wrappers.intrinsic import OWN_REWARD, IntrinsicRewardVector
from world_models.worlds.card import WorldCard

__all__ = ["DynamicsEntropy", "DynamicsEntropyVector"]


class DynamicsEntropyVector(IntrinsicRewardVector):
    """The reward becomes the world's uncertainty about the frame, 0 to 2, in all rows at once.

    The env's own reward stays in ``info["env_reward"]``, and ``info["dynamics_entropy"]`` has the
    uncertainty before scaling. All autoreset modes are understood; where a row begins an episode
    nothing is scored.

    Args:
        env: A vector env with the world's frames and actions.
        world: Name or path of the world.
        mode: "paper" gives two frames and predicts three in one pass, of which the last counts;
            "streaming" follows the episode and scores the next frame before it is seen;
            "surprise" likewise, but scores how unlikely the frame was that came.
        add: Whether to add to the env's own reward in place of replacing it.
        scale: Multiplies the uncertainty.
        device: Where to compute; "auto" takes a GPU if there is one.
        dtype: The type to compute in.
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
        self.meter = _meter(1, env.observation_space, env.action_space, world, **options)
        _check_looks(env.unwrapped.spec, self.meter.world.card)

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
        info = {**info, self.meter.name: score, OWN_REWARD: float(reward)}
        own = float(reward) if self.add else 0.0
        return frame, own + self.scale * score, terminated, truncated, info


def _meter(
    num_rows: int, frames: gym.Space, actions: gym.Space, world: str | Path, **options: Any
) -> EntropyMeter:
    """A meter for an env with these spaces."""
    if not isinstance(actions, gym.spaces.Discrete) or frames.shape is None:
        raise ValueError(f"expected frames and Discrete actions, got {frames} and {actions}")
    return EntropyMeter(
        num_rows, world, num_actions=int(actions.n), frame_shape=frames.shape, **options
    )


def _check_looks(spec: EnvSpec | None, card: WorldCard) -> None:
    """The world's own game must be drawn as the world has learned it."""
    if spec is None or spec.id != card.env_id:
        return
    for name, usual in LOOKS.items():
        value = card.env_kwargs.get(name, usual)
        if spec.kwargs.get(name, usual) != value:
            raise ValueError(
                f"the world {card.name} has learned from frames made with {name}={value}: make the "
                f"env with {name}={value}"
            )
