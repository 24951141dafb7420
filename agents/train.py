"""`genie-gym train-agent`: trains PPO on an env's own reward, to collect data with.

The workshop paper collects CoinRun data with an agent that was trained on easy levels with the
velocity map; `coinrun` below is that recipe, `coinrun_quick` a small version.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

import genie_gym  # noqa: F401  (registers the env ids)
from agents.networks import FEATURES
from agents.saved_policy import PolicyCard, save_policy
from agents.sb3 import make_sb3_env
from genie_gym.registration import LOOKS

__all__ = ["AgentConfig", "RECIPES", "main", "train_agent"]


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Trains a PPO agent on the env's own reward.

    Attributes:
        env: Env id.
        out: Folder for the saved policy.
        steps: Total env steps, summed over the rows.
        num_envs: Number of sub-envs (rows) of the vector env.
        features: Feature extractor: nature, impala or small.
        rollout: Steps of each row between updates.
        batch_size: Steps in each minibatch.
        epochs: Passes over each rollout.
        learning_rate: Learning rate of Adam.
        gamma: Discount factor.
        entropy: Weight of the entropy bonus.
        seed: Seed of all randomness.
        env_kwargs: Further arguments of the env.
    """

    env: str = "Procgen/CoinRun-v0"
    out: Path = Path("runs/agent")
    steps: int = 25_000_000
    num_envs: int = 64
    features: str = "impala"
    rollout: int = 256
    batch_size: int = 2048
    epochs: int = 3
    learning_rate: float = 5e-4
    gamma: float = 0.999
    entropy: float = 0.01
    seed: int = 0
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise ValueError(f"features must be one of {sorted(FEATURES)}, got {self.features!r}")
        if self.steps < self.num_envs * self.rollout:
            raise ValueError(
                f"steps must be at least num_envs x rollout = {self.num_envs * self.rollout}, "
                f"got {self.steps}"
            )


def coinrun() -> AgentConfig:
    """The workshop paper's agent: easy levels, velocity map, Procgen's PPO settings."""
    return AgentConfig(
        out=Path("runs/coinrun-agent"),
        env_kwargs={"distribution_mode": "easy", "velocity_map": True},
    )


def coinrun_quick() -> AgentConfig:
    """A small network that learns to run right and jump, in minutes on two cores."""
    return AgentConfig(
        out=Path("runs/coinrun-agent-quick"),
        steps=1_000_000,
        features="nature",
        rollout=64,
        batch_size=1024,
        gamma=0.99,
        env_kwargs={"distribution_mode": "easy", "velocity_map": True},
    )


RECIPES = {"coinrun": coinrun, "coinrun-quick": coinrun_quick}


def main(argv: list[str]) -> int:
    """Runs the command line: the name of a recipe, then any field to override."""
    config = tyro.extras.overridable_config_cli(
        {name: (recipe.__doc__ or "", recipe()) for name, recipe in RECIPES.items()}, args=argv
    )
    train_agent(config, progress=True)
    print(f"saved {config.out}; collect with it: genie-gym collect {config.env} --policy "
          f"{config.out} --env-kwargs velocity_map true --out DIR")  # fmt: skip
    return 0


def train_agent(config: AgentConfig, *, progress: bool = False) -> float:
    """Trains and saves an agent.

    Returns:
        The mean return of the last 100 training episodes.
    """
    env = VecMonitor(make_sb3_env(config.env, config.num_envs, **config.env_kwargs))
    try:
        model = PPO(
            "CnnPolicy",
            env,
            n_steps=config.rollout,
            batch_size=config.batch_size,
            n_epochs=config.epochs,
            learning_rate=config.learning_rate,
            gamma=config.gamma,
            ent_coef=config.entropy,
            policy_kwargs={"features_extractor_class": FEATURES[config.features]},
            seed=config.seed,
        )
        model.learn(config.steps, progress_bar=progress)
        returns = [episode["r"] for episode in model.ep_info_buffer or ()]
        mean_return = sum(returns) / len(returns) if returns else float("nan")
        save_policy(config.out, _card(config, env, mean_return), model.policy)
    finally:
        env.close()
    return mean_return


def _card(config: AgentConfig, env: VecMonitor, mean_return: float) -> PolicyCard:
    actions = env.get_attr("actions")[0]
    height, width, channels = env.observation_space.shape or ()
    return PolicyCard(
        env_id=config.env,
        action_set=actions.name,
        action_meanings=actions.meanings,
        frame_shape=(height, width, channels),
        features=config.features,
        observes={k: v for k, v in config.env_kwargs.items() if k in LOOKS},
        training={**asdict(config), "out": str(config.out), "mean_return": mean_return},
    )
