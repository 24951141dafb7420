"""The rewards that an exploring agent can be trained on, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from agents.sb3 import SB3VecEnv
from genie_gym.envs.loaded_worlds import open_world, real_kwargs
from genie_gym.envs.make import make_rows
from genie_gym.wrappers import DynamicsEntropyVector, IntrinsicRewardVector, RandomNetworkMeter
from genie_gym.wrappers.entropy_meter import MODES

__all__ = ["REWARDS", "RewardedEnv"]

REWARDS = (*MODES, "novelty", "own")


@dataclass(frozen=True, kw_only=True)
class RewardedEnv:
    """An env and the reward to train on in it.

    Attributes:
        env: Env id.
        world: Name or path of the world model whose uncertainty is the reward; optional for the
            rewards novelty and own.
        reward: paper, streaming or surprise (see `DynamicsEntropyVector`), novelty (random
            network distillation, no world model needed) or own (the env's own reward).
        scale: Factor by which the reward is multiplied; not applied to the env's own reward.
        max_steps: Maximum steps per episode.
        num_envs: Number of sub-envs in the vector env.
        seed: Seed for the networks of the reward novelty.
        dtype: Floating-point type that the world model computes in; "auto" uses bfloat16 if it
            is faster, which changes the reward by a thousandth.
        env_kwargs: Further arguments of the env, in addition to the arguments that the world model
            was trained with.
    """

    env: str
    world: str | None = None
    reward: str = "streaming"
    scale: float = 0.1
    max_steps: int = 500
    num_envs: int = 16
    seed: int = 0
    dtype: str = "auto"
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reward not in REWARDS:
            raise ValueError(f"reward must be one of {', '.join(REWARDS)}, got {self.reward!r}")
        if self.reward in MODES and self.world is None:
            raise ValueError(
                f"reward {self.reward!r} needs a world model, but none was given: "
                "add --world NAME, or use --reward novelty"
            )

    def all_env_kwargs(self) -> dict[str, Any]:
        """Returns the env arguments of the world model, overridden by `env_kwargs`."""
        if self.world is None:
            return self.env_kwargs
        return {**real_kwargs(open_world(self.world).card), **self.env_kwargs}

    def make_plain(self) -> VectorEnv:
        """Returns the env without the reward to train on."""
        return make_rows(
            self.env,
            self.num_envs,
            autoreset_mode=AutoresetMode.SAME_STEP,
            max_episode_steps=self.max_steps,
            **self.all_env_kwargs(),
        )

    def make(self, env: VectorEnv | None = None) -> SB3VecEnv:
        """Returns the env with the reward to train on, as a Stable-Baselines3 env.

        Args:
            env: An env from `make_plain`, possibly wrapped; by default a new one.
        """
        env = env or self.make_plain()
        if self.reward == "novelty":
            meter = RandomNetworkMeter(seed=self.seed)
            env = IntrinsicRewardVector(env, meter, scale=self.scale)
        elif self.reward != "own":
            assert self.world is not None
            env = DynamicsEntropyVector(
                env, self.world, mode=self.reward, scale=self.scale, dtype=self.dtype
            )
        return SB3VecEnv(env, endless=self.reward != "own")
