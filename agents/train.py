"""`genie-gym train-agent`: trains PPO on an env's own reward; the agent can then collect data.

The workshop paper collects CoinRun data with an agent that was trained on easy levels with the
velocity map. The recipe `coinrun` trains this agent; `coinrun-quick` trains a small version.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro
from stable_baselines3.common.vec_env import VecMonitor

import genie_gym  # noqa: F401  (registers the env ids)
from agents.ppo import Iterations, PPOConfig
from agents.saved_policy import PolicyCard, collect_command, save_policy
from agents.sb3 import make_sb3_env
from genie_gym.registration import LOOKS
from world_models.settings import begin

__all__ = ["AgentConfig", "RECIPES", "main", "train_agent"]


@dataclass(frozen=True, kw_only=True)
class AgentConfig(PPOConfig):
    """Trains a PPO agent on the env's own reward.

    Run the same command again to resume after an interruption. The policy is saved in `out` at the
    end.

    Attributes:
        env: Env id.
        eval_every: Env steps per iteration. Each iteration trains, saves a checkpoint and logs the
            mean return of the last 100 episodes.
        env_kwargs: Further arguments of the env.
    """

    env: str = "Procgen/CoinRun-v0"
    out: Path = Path("runs/agent")
    steps: int = 25_000_000
    eval_every: int = 500_000
    num_envs: int = 64
    features: str = "impala"
    rollout: int = 256
    batch_size: int = 2048
    gamma: float = 0.999
    env_kwargs: dict[str, Any] = field(default_factory=dict)


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
        eval_every=100_000,
        features="nature",
        rollout=64,
        batch_size=1024,
        gamma=0.99,
        env_kwargs={"distribution_mode": "easy", "velocity_map": True},
    )


RECIPES = {"coinrun": coinrun, "coinrun-quick": coinrun_quick}


def main(argv: list[str]) -> int:
    """Runs the command line: the name of a recipe, then any settings to override."""
    config = tyro.extras.overridable_config_cli(
        {name: (recipe.__doc__ or "", recipe()) for name, recipe in RECIPES.items()}, args=argv
    )
    train_agent(config)
    command = collect_command(config.env, config.out, _looks(config))
    print(f"saved {config.out}; collect with it: {command}")
    return 0


def train_agent(config: AgentConfig) -> float:
    """Trains an agent, or resumes its training, and saves it.

    Returns:
        The mean return of the last 100 training episodes.
    """
    begin(config.out / "train-agent.json", asdict(config), may_change=("out", "steps"))
    env = VecMonitor(make_sb3_env(config.env, config.num_envs, **config.env_kwargs))
    try:
        iterations = Iterations(config, env)
        iterations.run(config.env, lambda number: {"mean_return": _mean_return(iterations)})
        mean_return = iterations.history[-1]["mean_return"]
        save_policy(config.out, _card(config, env, mean_return), iterations.model.policy)
    finally:
        env.close()
    return mean_return


def _mean_return(iterations: Iterations) -> float:
    returns = [episode["r"] for episode in iterations.model.ep_info_buffer or ()]
    return sum(returns) / len(returns) if returns else float("nan")


def _looks(config: AgentConfig) -> dict[str, Any]:
    """Returns the env arguments that change what the agent sees."""
    return {name: value for name, value in config.env_kwargs.items() if name in LOOKS}


def _card(config: AgentConfig, env: VecMonitor, mean_return: float) -> PolicyCard:
    actions = env.get_attr("actions")[0]
    height, width, channels = env.observation_space.shape or ()
    return PolicyCard(
        env_id=config.env,
        action_set=actions.name,
        action_meanings=actions.meanings,
        frame_shape=(height, width, channels),
        features=config.features,
        memory=config.memory,
        observes=_looks(config),
        training={**asdict(config), "out": str(config.out), "mean_return": mean_return},
    )
