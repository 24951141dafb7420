"""Settings for training an agent in a dream, and recipes for individual world models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from gymnasium.vector import AutoresetMode, VectorEnv

import genie_gym  # noqa: F401  (registers the env ids)
from agents.ppo import PPOConfig
from agents.returns import make_real
from agents.sb3 import SB3VecEnv
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.wrappers.stack import StackFramesVector

__all__ = ["DreamTrainConfig", "RECIPES", "recipe_of"]


@dataclass(frozen=True, kw_only=True)
class DreamTrainConfig(PPOConfig):
    """Trains a PPO agent in a world model's dream and evaluates it in the real game.

    Run the same command again to resume after an interruption. The policy is saved in `out`;
    use it with `genie-gym collect --policy OUT`.

    Attributes:
        world: Name or path of the world model.
        where: Train in the dream or, for comparison, in the real game with the same settings.
        starts: Folder of a dataset. Dreams start from its frames, instead of from the few starts
            stored with the world model. With `rounds`, dreams start from the episodes that the
            rounds collect.
        horizon: Maximum steps per training episode.
        stack: Number of frames that the agent sees at once.
        reward: The dream's rewards; see `GenieVectorEnv`.
        reward_scale: Factor by which rewards are multiplied; a good value is 1 / (the usual
            reward).
        truncate_when_unsure: Truncate a dream when a frame's entropy exceeds this value; None
            disables this.
        uncertainty_penalty: Subtract this factor times the frame's entropy from the reward, before
            the reward is scaled.
        eval_episodes: Number of episodes per evaluation in the real game; the evaluation in the
            dream has the same number.
        eval_steps: Maximum steps per evaluation episode.
        keep: Policy to save: the last one, or the one with the largest return in the real game
            ("best"). With "best", evaluations in the real game thus influence the saved policy.
        max_overpay: Stop when, in two evaluations in a row, the dream return exceeds the real
            return by more than (this value - 1) times the size of the real return (or of the first
            real return, if that is larger): the agent then exploits the dream's faults. 0 never
            stops.
        rounds: Number of rounds that improve the world model. Each round trains an agent in the
            world model, collects real episodes with the agent and with other policies, and
            fine-tunes the world model on these episodes. The final agent is trained in the last
            world model.
        round_frames: Number of real frames collected before the first round and in each round.
        round_steps: Number of fine-tuning steps for the dynamics in each round.
        dtype: Floating-point type that the world model computes in; "auto" uses bfloat16 if it is
            faster than float32.
    """

    world: Annotated[str, tyro.conf.Positional]
    out: Path = Path("runs/dream-agent")
    where: Literal["dream", "real"] = "dream"
    steps: int = 50_000
    eval_every: int = 10_000
    rollout: int = 128
    batch_size: int = 256
    epochs: int = 2
    features: str = "half-nature"
    starts: Path | None = None
    horizon: int = 128
    stack: int = 2
    reward: Literal["expected", "sampled", "rounded"] | None = None
    reward_scale: float = 1.0
    truncate_when_unsure: float | None = None
    uncertainty_penalty: float = 0.0
    eval_episodes: int = 4
    eval_steps: int = 500
    keep: Literal["last", "best"] = "last"
    max_overpay: float = 1.5
    rounds: int = 0
    round_frames: int = 20_000
    round_steps: int = 200
    dtype: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("horizon", "stack", "eval_episodes", "eval_steps", "round_frames", "round_steps")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.rounds < 0:
            raise ValueError(f"rounds must be at least 0, got {self.rounds}")
        if self.rounds and self.starts is not None:
            raise ValueError(
                "with --rounds, dreams start from real episodes that the rounds collect: omit "
                f"--starts {self.starts}"
            )
        if self.reward_scale <= 0 or self.max_overpay < 0 or self.uncertainty_penalty < 0:
            raise ValueError(
                "expected a positive reward_scale, and max_overpay and uncertainty_penalty of at "
                f"least 0, got {self.reward_scale}, {self.max_overpay}, {self.uncertainty_penalty}"
            )

    def training_env(self) -> SB3VecEnv:
        """Returns the env to train in."""
        env: VectorEnv
        if self.where == "real":
            env = make_real(self.world, self.num_envs, self.horizon, AutoresetMode.SAME_STEP)
        else:
            env = GenieVectorEnv(
                self.world,
                self.num_envs,
                dtype=self.dtype,
                starts=self.starts,
                reward=self.reward,
                truncate_when_unsure=self.truncate_when_unsure,
                uncertainty_penalty=self.uncertainty_penalty,
                autoreset_mode=AutoresetMode.SAME_STEP,
                max_episode_steps=self.horizon,
            )
        return SB3VecEnv(StackFramesVector(env, self.stack), reward_scale=self.reward_scale)


def plain() -> DreamTrainConfig:
    """Any world model: rewards are not scaled."""
    return DreamTrainConfig(world="")


def crazy_climber() -> DreamTrainConfig:
    """Crazy Climber: a hundred points per step up."""
    return replace(plain(), world="CrazyClimber", reward_scale=0.01)


def coinrun() -> DreamTrainConfig:
    """CoinRun: one coin at the end of a level."""
    return replace(plain(), world="CoinRun", memory=256, reward_scale=0.1, gamma=0.995)


def freeway() -> DreamTrainConfig:
    """Freeway: a point per crossing, so rare that early returns say nothing about overpaying."""
    # Not rounded, because small expected rewards for walking up guide the agent.
    return replace(plain(), world="Freeway", reward="expected", max_overpay=0.0)


def frostbite() -> DreamTrainConfig:
    """Frostbite: ten points per floe."""
    return replace(plain(), world="Frostbite", reward_scale=0.1)


def pong() -> DreamTrainConfig:
    """Pong: small sprites, and points within some thirty steps of the moves that decided them."""
    config = replace(plain(), world="Pong", features="normalized")
    return replace(config, gamma=0.97, learning_rate=1e-3, epochs=4)


RECIPES: dict[str, Callable[[], DreamTrainConfig]] = {
    "CrazyClimber": crazy_climber,
    "CoinRun": coinrun,
    "Freeway": freeway,
    "Frostbite": frostbite,
    "Pong": pong,
}


def recipe_of(world: str) -> DreamTrainConfig:
    """Returns the recipe for a world model, chosen by its name or the name of its folder."""
    return replace(RECIPES.get(Path(world).name, plain)(), world=world)
