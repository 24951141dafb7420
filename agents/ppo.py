"""PPO for all agents in this package: the settings, and a training loop that runs in iterations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from agents.networks import FEATURES, ChannelsLastCnnPolicy
from world_models.progress import progress_bar
from world_models.training.checkpoint import Checkpoints, CheckpointState, Parts
from world_models.training.clock import Clock

__all__ = ["Iterations", "PPOConfig", "derived_seed", "new_ppo"]


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Settings of PPO.

    Attributes:
        out: Folder of the run.
        steps: Total env steps, summed over the sub-envs.
        minutes: Optional time limit in minutes; training ends after `steps` or after this time,
            whichever comes first.
        eval_every: Env steps per iteration. Each iteration trains, evaluates and saves the agent.
        num_envs: Number of sub-envs in the vector env.
        rollout: Steps of each sub-env between updates.
        batch_size: Steps in each minibatch.
        epochs: Passes over each rollout.
        learning_rate: Learning rate of Adam.
        gamma: Discount factor.
        gae_lambda: Lambda of generalized advantage estimation.
        entropy: Weight of the entropy bonus.
        clip_norm: Maximum norm of the gradient.
        memory: Hidden size of the LSTM; 0 for no LSTM.
        features: Feature extractor: nature, half-nature, normalized, impala or small.
        seed: Seed of all randomness.
        device: Device of the agent.
    """

    out: Path
    steps: int
    eval_every: int
    minutes: float | None = None
    num_envs: int = 16
    rollout: int = 32
    batch_size: int = 256
    epochs: int = 3
    learning_rate: float = 5e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    entropy: float = 0.01
    clip_norm: float = 0.5
    memory: int = 0
    features: str = "small"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise ValueError(f"features must be one of {sorted(FEATURES)}, got {self.features!r}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be positive, or None for no limit, got {self.minutes}")
        for name in ("num_envs", "rollout", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.steps < self.eval_every or self.eval_every < self.num_envs * self.rollout:
            raise ValueError(
                "expected num_envs x rollout <= eval_every <= steps, got "
                f"{self.num_envs} x {self.rollout}, {self.eval_every} and {self.steps}"
            )


def new_ppo(config: PPOConfig, env: VecEnv) -> PPO | RecurrentPPO:
    """Builds the untrained agent: a `RecurrentPPO` if `config.memory` is not 0, else a `PPO`."""
    network: dict[str, Any] = {"features_extractor_class": FEATURES[config.features]}
    kind: type[PPO | RecurrentPPO] = PPO
    policy: Any = ChannelsLastCnnPolicy
    options: dict[str, Any] = {"rollout_buffer_class": ChannelsLastRolloutBuffer}
    if config.memory:
        kind, policy, options = RecurrentPPO, "AutoExplorePolicy", {}
        network["lstm_hidden_size"] = config.memory
    return kind(
        policy,
        env,
        learning_rate=config.learning_rate,
        n_steps=config.rollout,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.entropy,
        max_grad_norm=config.clip_norm,
        policy_kwargs=network,
        seed=config.seed,
        device=config.device,
        **options,
    )


class ChannelsLastRolloutBuffer(RolloutBuffer):
    """`RolloutBuffer` that stores frames in channels-last format, as envs return them.

    Minibatches are then in the format of `ChannelsLastCnnPolicy`, and need not be converted.
    """

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()
        channels, *size = self.obs_shape
        frames = np.zeros((self.buffer_size, self.n_envs, *size, channels), np.uint8)
        self.observations = np.moveaxis(frames, -1, 2)

    @staticmethod
    def swap_and_flatten(arr: np.ndarray) -> np.ndarray:
        """Maps ``(steps, envs, ...)`` to ``(envs * steps, ...)``."""
        if arr.ndim < 5:
            return RolloutBuffer.swap_and_flatten(arr)
        return np.moveaxis(RolloutBuffer.swap_and_flatten(np.moveaxis(arr, 2, -1)), -1, 1)


class Iterations:
    """Trains an agent in iterations; evaluates and saves the agent after each iteration.

    Each iteration starts new episodes, and its random numbers depend only on the seed and the
    iteration's index, so a resumed run gives exactly the same agent as an uninterrupted run.

    Args:
        config: Settings of the training run.
        env: The env to train in.
        parts: Further modules and optimizers to save in the checkpoints.
    """

    def __init__(self, config: PPOConfig, env: VecEnv, parts: Parts | None = None):
        self.config, self.env = config, env
        self.model = new_ppo(config, env)
        policy = self.model.policy
        self._parts: Parts = {"policy": policy, "optimizer": policy.optimizer, **(parts or {})}
        writers = ["tensorboard"] if find_spec("tensorboard") else []
        self.model.set_logger(configure(str(config.out / "tensorboard"), writers))
        self._checkpoints = Checkpoints(config.out / "checkpoints", keep=1)
        self._checkpoints.clean()
        state = self._checkpoints.resume(self._parts)
        self.steps = state.step if state else 0
        self._clock = Clock(config.minutes, state.seconds if state else 0.0)
        self.history: list[dict[str, float]] = state.data["history"] if state else []

    def run(self, title: str, evaluate: Callable[[int], Mapping[str, float]]) -> None:
        """Trains the agent to the end.

        Args:
            title: Text that is shown next to the progress bar.
            evaluate: Function that is called after each iteration, with the index of the iteration.
                It evaluates the agent and returns numbers to log by name. A nonzero number "stop"
                ends training.
        """
        with progress_bar(total=self.config.steps, unit="step", desc=title) as bar:
            bar.update(self.steps)
            while self.steps < self.config.steps and not self._stopped():
                self._learn(bar)
                numbers = dict(evaluate(len(self.history)))
                for name, value in numbers.items():
                    self.model.logger.record(f"eval/{name}", value)
                self.model.logger.dump(self.steps)
                self.history.append({"steps": float(self.steps), **numbers})
                state = CheckpointState(
                    step=self.steps,
                    data={"history": self.history},
                    seconds=self._clock.seconds,
                )
                self._checkpoints.save(self._parts, state)

    def best(self, name: str) -> float:
        """Returns the largest value logged as `name` so far; -inf before the first evaluation."""
        return max((past[name] for past in self.history), default=-np.inf)

    def _stopped(self) -> bool:
        told_to = bool(self.history) and self.history[-1].get("stop", 0.0) != 0
        return told_to or bool(self.history) and self._clock.share() >= 1

    def _learn(self, bar: tqdm) -> None:
        model, config = self.model, self.config
        model.set_random_seed(derived_seed(config.seed, len(self.history)))
        model.set_env(self.env)  # makes `learn` reset the env
        model.num_timesteps = self.steps
        steps = min(config.eval_every, config.steps - self.steps)
        model.learn(
            steps, callback=_Bar(bar, self._clock), log_interval=1, reset_num_timesteps=False
        )
        self.steps = model.num_timesteps


class _Bar(BaseCallback):
    """Advances the progress bar, and ends training when the time limit is reached."""

    def __init__(self, bar: tqdm, clock: Clock):
        super().__init__()
        self._bar, self._clock = bar, clock

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return self._clock.share() < 1


def derived_seed(*numbers: int) -> int:
    """Returns a seed that depends on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) & 0x7FFFFFFF
