"""Settings for training an exploring agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agents.ppo import PPOConfig
from agents.rewards import RewardedEnv
from genie_gym.collect.command import parse_value

__all__ = ["ExploreConfig"]


@dataclass(frozen=True, kw_only=True)
class ExploreConfig(PPOConfig):
    """Trains a recurrent PPO agent that seeks what a world model cannot predict.

    Run the same command again to resume after an interruption. The best policy so far is saved in
    `out` (with the reward novelty, the last policy). Use it with `genie-gym collect --policy OUT`.

    Attributes:
        env: Env id of a real game.
        world: Name or path of the world model whose uncertainty is the reward; optional for the
            rewards novelty and own.
        reward: paper (as published), streaming (cheaper: the world model follows the episode),
            surprise (how unlikely the frame was), novelty (random network distillation, no world
            model needed) or own (the env's own reward).
        max_steps: Maximum steps per episode.
        eval_steps: Maximum steps per episode in evaluations.
        eval_temperature: Temperature of the action distribution in evaluations; 0 is greedy.
        scale: Factor by which the reward is multiplied; not applied to the env's own reward.
        dtype: Floating-point type that the world model computes in; "auto" uses bfloat16 if it
            is faster.
        env_kwargs: Further arguments of the env as KEY VALUE pairs, in addition to the arguments
            that the world model was trained with.
    """

    env: str
    out: Path = Path("runs/explore")
    world: str | None = None
    reward: str = "streaming"
    steps: int = 500_000
    eval_every: int = 25_000
    max_steps: int = 500
    eval_steps: int = 250
    eval_temperature: float = 0.5
    gamma: float = 0.995
    entropy: float = 0.001
    clip_norm: float = 10.0
    scale: float = 0.1
    memory: int = 512
    dtype: str = "auto"
    env_kwargs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rewarded_env()

    def rewarded_env(self) -> RewardedEnv:
        """Returns the env and its reward."""
        return RewardedEnv(
            env=self.env,
            world=self.world,
            reward=self.reward,
            scale=self.scale,
            max_steps=self.max_steps,
            num_envs=self.num_envs,
            seed=self.seed,
            dtype=self.dtype,
            env_kwargs={key: parse_value(text) for key, text in self.env_kwargs.items()},
        )
