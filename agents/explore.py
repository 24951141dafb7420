"""`genie-gym explore`: trains an agent to seek what a world model cannot predict (AutoExplore)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import tyro
from stable_baselines3.common.vec_env import VecMonitor
from torch import nn

from agents.evaluation import Evaluation, evaluate
from agents.explore_config import ExploreConfig
from agents.ppo import Iterations, derived_seed
from agents.saved_policy import PolicyCard, SavedPolicy, collect_command, save_policy
from genie_gym.data.pictures import save_frames
from genie_gym.envs.make import find_spec
from genie_gym.registration import LOOKS
from genie_gym.wrappers import RandomNetworkMeter
from world_models.command_line import parse
from world_models.settings import begin
from world_models.training.checkpoint import Parts

__all__ = ["ExploreConfig", "explore", "main"]


def main(argv: list[str]) -> int:
    """Runs the command line."""
    config = parse(ExploreConfig, argv, tyro.conf.PositionalRequiredArgs, prog="genie-gym explore")
    explore(config)
    kwargs = config.rewarded_env().all_env_kwargs()
    print(collect_command(config.env, config.out, kwargs, " --epsilon 0.15"))
    return 0


def explore(
    config: ExploreConfig, on_evaluation: Callable[[Evaluation], None] = lambda result: None
) -> list[dict[str, float]]:
    """Trains an agent, or resumes its training.

    Args:
        config: Settings of the training run.
        on_evaluation: Function that is called with the evaluation after each iteration that this
            call runs.

    Returns:
        The results of all evaluations in order, including evaluations before a resume.
    """
    find_spec(config.env)  # raises early for an unknown id, with suggestions
    begin(config.out / "explore.json", asdict(config), may_change=("out", "steps"))
    run = _Run(config, on_evaluation)
    try:
        run.iterations.run(config.env, run.evaluate)
    finally:
        run.env.close()
    return run.iterations.history


class _Run:
    """A training run."""

    def __init__(self, config: ExploreConfig, on_evaluation: Callable[[Evaluation], None]):
        self._config, self._on_evaluation = config, on_evaluation
        self.env = config.rewarded_env().make()
        self._meter: Any = getattr(self.env.env, "meter", None)
        parts: Parts = {}
        if isinstance(self._meter, RandomNetworkMeter):  # the meter is trained, too
            parts = {"meter": self._meter, "meter_optimizer": self._meter.optimizer}
        self.iterations = Iterations(config, VecMonitor(self.env), parts)

    def evaluate(self, number: int) -> dict[str, float]:
        """Evaluates the agent and saves it if it is the best so far.

        With the reward `novelty`, the last agent is saved instead: this reward falls as its meter
        learns, so the returns of different evaluations are not comparable.
        """
        config, iterations = self._config, self.iterations
        network = iterations.model.policy
        if isinstance(self._meter, nn.Module):
            self._meter.eval()
        policy = SavedPolicy(network, num_envs=config.num_envs, temperature=config.eval_temperature)
        seed = derived_seed(config.seed, number, 1)
        result = evaluate(self.env.env, policy, seed=seed, max_steps=config.eval_steps)
        if isinstance(self._meter, nn.Module):
            self._meter.train()
        animation = config.out / "animations" / f"step-{iterations.steps:09}.gif"
        save_frames(result.frames, animation)
        novelty = config.reward == "novelty"
        if novelty or result.trained_return >= iterations.best("trained_return"):
            save_policy(config.out, _card(config, self.env.env, result), network)
        self._on_evaluation(result)
        return result.numbers()


def _card(config: ExploreConfig, env: Any, result: Evaluation) -> PolicyCard:
    actions = env.unwrapped.actions
    kwargs = config.rewarded_env().all_env_kwargs()
    return PolicyCard(
        env_id=config.env,
        action_set=actions.name,
        action_meanings=actions.meanings,
        frame_shape=env.single_observation_space.shape,
        features=config.features,
        memory=config.memory,
        observes={key: value for key, value in kwargs.items() if key in LOOKS},
        training={**asdict(config), "out": str(config.out), **result.numbers()},
    )
