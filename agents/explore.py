"""`genie-gym explore`: trains an agent that seeks what a world model cannot predict (AutoExplore).

Training consists of iterations. Each starts new episodes, and its random numbers depend only on the
seed and the iteration's index, so a resumed run gives exactly the agent of an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from torch import nn
from tqdm import tqdm

from agents.evaluation import Evaluation, evaluate
from agents.explore_config import ExploreConfig
from agents.saved_policy import PolicyCard, SavedPolicy, save_policy
from genie_gym.data.pictures import save_frames
from genie_gym.registration import LOOKS
from world_models.settings import begin
from world_models.training.checkpoint import Checkpoints, CheckpointState, Parts

__all__ = ["ExploreConfig", "explore", "main", "new_model"]


def main(argv: list[str]) -> int:
    """Runs the command line."""
    config = tyro.cli(ExploreConfig, args=argv, config=(tyro.conf.PositionalRequiredArgs,))
    explore(config)
    pairs = [f"{key} {value}" for key, value in config.rewarded_env().all_env_kwargs().items()]
    kwargs = f" --env-kwargs {' '.join(pairs)}" if pairs else ""
    print(f"genie-gym collect {config.env} --policy {config.out} --epsilon 0.15{kwargs} --out DIR")
    return 0


def explore(
    config: ExploreConfig, on_evaluation: Callable[[Evaluation], None] = lambda result: None
) -> list[dict[str, float]]:
    """Trains an agent, or resumes its training.

    Args:
        config: Settings of the training.
        on_evaluation: Called with the evaluation after each iteration trained by this call.

    Returns:
        The numbers of all evaluations in order, including those before a resume.
    """
    gym.spec(config.env)  # raises early for an unknown id, with suggestions
    begin(config.out / "explore.json", asdict(config), may_change=("out", "steps"))
    run = _Run(config)
    try:
        with tqdm(total=config.steps, unit="step", desc=config.env) as bar:
            bar.update(run.steps)
            while run.steps < config.steps:
                on_evaluation(run.iterate(bar))
    finally:
        run.env.close()
    return run.history


def new_model(config: ExploreConfig, env: VecEnv) -> RecurrentPPO:
    """Builds the untrained agent."""
    return RecurrentPPO(
        "AutoExplorePolicy",
        env,
        learning_rate=config.learning_rate,
        n_steps=config.rollout,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.entropy,
        max_grad_norm=config.clip_norm,
        policy_kwargs={"lstm_hidden_size": config.memory},
        seed=config.seed,
        device=config.device,
    )


class _Run:
    """A training run and its progress."""

    def __init__(self, config: ExploreConfig):
        self.config = config
        env = config.rewarded_env().make()
        self.vector, self.env = env.env, VecMonitor(env)
        self.meter: Any = getattr(env.env, "meter", None)
        self.model = new_model(config, self.env)
        writers = ["tensorboard"] if find_spec("tensorboard") else []
        self.model.set_logger(configure(str(config.out / "tensorboard"), writers))
        self.checkpoints = Checkpoints(config.out / "checkpoints", keep=1)
        self.checkpoints.clean()
        state = self.checkpoints.resume(self._parts())
        self.steps = state.step if state else 0
        self.history: list[dict[str, float]] = state.data["history"] if state else []

    def iterate(self, bar: tqdm) -> Evaluation:
        """Trains for one iteration, evaluates, and saves."""
        model, config, number = self.model, self.config, len(self.history)
        model.set_random_seed(_seed(config.seed, number))
        model.set_env(self.env)  # makes `learn` reset the env
        model.num_timesteps = self.steps
        steps = min(config.eval_every, config.steps - self.steps)
        model.learn(steps, callback=_Bar(bar), log_interval=1, reset_num_timesteps=False)
        self.steps = model.num_timesteps
        result = self._evaluate(number)
        self._save(result)
        return result

    def _evaluate(self, number: int) -> Evaluation:
        config = self.config
        network = self.model.policy
        if isinstance(self.meter, nn.Module):
            self.meter.eval()
        policy = SavedPolicy(network, num_envs=config.num_envs, temperature=config.eval_temperature)
        seed = _seed(config.seed, number, 1)
        result = evaluate(self.vector, policy, seed=seed, max_steps=config.eval_steps)
        if isinstance(self.meter, nn.Module):
            self.meter.train()
        for name, value in result.numbers().items():
            self.model.logger.record(f"eval/{name}", value)
        self.model.logger.dump(self.steps)
        save_frames(result.frames, config.out / "animations" / f"step-{self.steps:09}.gif")
        return result

    def _save(self, result: Evaluation) -> None:
        best = max((past["trained_return"] for past in self.history), default=-np.inf)
        self.history.append({"steps": float(self.steps), **result.numbers()})
        if result.trained_return >= best:
            save_policy(self.config.out, _card(self.config, self.vector, result), self.model.policy)
        state = CheckpointState(step=self.steps, data={"history": self.history})
        self.checkpoints.save(self._parts(), state)

    def _parts(self) -> Parts:
        policy, meter = self.model.policy, self.meter
        parts: Parts = {"policy": policy, "optimizer": policy.optimizer}
        if hasattr(meter, "optimizer"):  # the meter is trained too
            parts = {**parts, "meter": meter, "meter_optimizer": meter.optimizer}
        return parts


class _Bar(BaseCallback):
    """Advances the progress bar."""

    def __init__(self, bar: tqdm):
        super().__init__()
        self._bar = bar

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return True


def _card(config: ExploreConfig, env: Any, result: Evaluation) -> PolicyCard:
    actions = env.unwrapped.actions
    kwargs = config.rewarded_env().all_env_kwargs()
    return PolicyCard(
        env_id=config.env,
        action_set=actions.name,
        action_meanings=actions.meanings,
        frame_shape=env.single_observation_space.shape,
        features="small",
        memory=config.memory,
        observes={key: value for key, value in kwargs.items() if key in LOOKS},
        training={**asdict(config), "out": str(config.out), **result.numbers()},
    )


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) & 0x7FFFFFFF
