"""The settings of an exploring agent's training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agents.rewards import Explored
from genie_gym.collect.command import parse_value

__all__ = ["ExploreConfig"]


@dataclass(frozen=True, kw_only=True)
class ExploreConfig:
    """Trains a recurrent PPO agent to look for what a world model cannot foresee.

    Run the same command again to go on after an interruption. The best policy so far lies in
    `out`, as `genie-gym collect --policy OUT` takes it.

    Attributes:
        env: Env id of a real game.
        out: The run's folder.
        world: Name or path of the world whose uncertainty is the reward.
        reward: paper (as published), streaming (cheaper: the world follows the episode),
            surprise (how unlikely what came was), novelty (random network distillation, without
            a world) or own (the env's own reward).
        steps: Env steps in all rows together.
        leg: Env steps between evaluations; runs go on from the last one.
        num_envs: Rows of the vector env.
        max_steps: Episodes are truncated after so many steps.
        eval_steps: Episodes of an evaluation are cut after so many steps.
        eval_temperature: Of the action distribution in evaluations.
        rollout: Steps of each row between updates.
        batch_size: Of the updates.
        epochs: Passes over each rollout.
        learning_rate: Of Adam.
        gamma: Discount.
        gae_lambda: Of the advantage estimate.
        entropy: Weight of the entropy bonus.
        clip_norm: Longest gradient.
        scale: Multiplies the reward, the env's own excepted.
        memory: Width of the LSTM.
        seed: Of everything.
        device: Of the agent; the world takes a GPU if there is one.
        dtype: What the world computes in.
        env_kwargs: Further arguments of the env, as KEY VALUE pairs, beside those of the world.
    """

    env: str
    out: Path = Path("runs/explore")
    world: str | None = None
    reward: str = "streaming"
    steps: int = 500_000
    leg: int = 25_000
    num_envs: int = 16
    max_steps: int = 500
    eval_steps: int = 250
    eval_temperature: float = 0.5
    rollout: int = 32
    batch_size: int = 256
    epochs: int = 3
    learning_rate: float = 5e-4
    gamma: float = 0.995
    gae_lambda: float = 0.95
    entropy: float = 0.001
    clip_norm: float = 10.0
    scale: float = 0.1
    memory: int = 512
    seed: int = 0
    device: str = "cpu"
    dtype: str = "bfloat16"
    env_kwargs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.explored()
        if self.steps < self.leg or self.leg < self.num_envs * self.rollout:
            raise ValueError(
                "expected num_envs x rollout <= leg <= steps, got "
                f"{self.num_envs} x {self.rollout}, {self.leg} and {self.steps}"
            )

    def explored(self) -> Explored:
        """The env and its reward."""
        return Explored(
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
