"""Trains an agent in a world model's dream and evaluates it in the real game."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecMonitor

from agents.dream_config import DreamTrainConfig, recipe_of
from agents.ppo import Iterations, derived_seed
from agents.returns import Played, make_real, play_out
from agents.saved_policy import PolicyCard, SavedPolicy, save_policy
from genie_gym.data.pictures import save_frames
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.registration import LOOKS
from world_models.episodes import EpisodeDataset
from world_models.inference.parallel import one_thread
from world_models.settings import begin

__all__ = ["dream_train", "settings_of", "train_for"]

_STEPS_PER_MINUTE = 30_000  # more than any machine reaches, so the time limit ends training


def dream_train(config: DreamTrainConfig) -> list[dict[str, float]]:
    """Trains an agent, or resumes its training.

    Returns:
        The evaluations in order. Each has these numbers:

        * ``steps``: Training steps so far.
        * ``dream_return`` and ``real_return``: Mean returns from the same first frames.
        * ``real_frames``: Number of frames of the real game used so far.
        * ``overpaid``: 1 if the dream return exceeds the real return by more than
          `config.max_overpay` allows, else 0.
        * ``stop``: 1 if ``overpaid`` is 1 in this evaluation and the previous one, else 0.
    """
    begin(config.out / "dream-train.json", settings_of(config), may_change=("out", "steps"))
    run = _Run(config)
    try:
        # The agent's network is so small that torch's threads would mostly wait. The dream uses
        # its own threads.
        with one_thread():
            run.iterations.run(str(config.world), run.evaluate)
    finally:
        run.close()
    history = run.iterations.history
    if history[-1]["stop"]:
        print(
            f"stopped, because the dream return was more than {config.max_overpay:g} times the "
            "real return in two evaluations in a row (--max-overpay 0 never stops)"
        )
    return history


def train_for(
    world: Path, *, out: Path, starts: Path, minutes: float | None, **changes: Any
) -> list[dict[str, float]]:
    """Trains an agent in a world model's dream for some minutes; see `dream_train`.

    Args:
        world: Folder of the world model.
        out: Folder for the agent.
        starts: Dataset that dreams start from.
        minutes: Time limit for training; None trains for the recipe's number of steps.
        **changes: Other fields of `DreamTrainConfig`.
    """
    paid = [abs(reward) for reward in open_world(world).card.rewards if reward]
    config = replace(
        recipe_of(str(world)), out=out, starts=starts, minutes=minutes, eval_steps=200, **changes
    )
    if paid and config.reward_scale == 1:
        config = replace(config, reward_scale=1 / float(np.median(paid)))
    if minutes is not None:
        steps = max(config.eval_every, int(_STEPS_PER_MINUTE * minutes))
        config = replace(config, steps=steps)
    return dream_train(config)


class _Run:
    """A training run."""

    def __init__(self, config: DreamTrainConfig):
        self._config = config
        self._card = open_world(config.world).card
        self._env = VecMonitor(config.training_env())
        rows, steps = config.eval_episodes, config.eval_steps
        self._real = make_real(config.world, rows, steps)
        self._dream = GenieVectorEnv(
            config.world,
            rows,
            dtype=config.dtype,
            reward=config.reward,
            autoreset_mode="Disabled",
            max_episode_steps=steps,
        )
        self.iterations = Iterations(config, self._env)

    def evaluate(self, number: int) -> dict[str, float]:
        """Evaluates the agent in the real game and, from the same first frames, in the dream."""
        config, history = self._config, self.iterations.history
        seed = derived_seed(config.seed, number, 1)
        first, _ = self._real.reset(seed=seed)
        real = self._play(self._real, first, seed)
        self._dream.reset(seed=seed, options={"frames": first[:, None]})
        dream = self._play(self._dream, first, seed)
        name = f"step-{self.iterations.steps:09}"
        save_frames(real.frames, config.out / "animations" / f"{name}-real.gif")
        save_frames(dream.frames, config.out / "animations" / f"{name}-dream.gif")
        earlier = history[-1] if history else {"real_frames": 0.0, "steps": 0.0, "overpaid": 0.0}
        trained = self.iterations.steps - earlier["steps"] if config.where == "real" else 0.0
        numbers = {
            "dream_return": float(dream.returns.mean()),
            "real_return": float(real.returns.mean()),
            "real_frames": earlier["real_frames"] + float(real.lengths.sum()) + trained,
        }
        numbers["overpaid"] = float(self._is_overpaid(numbers))
        numbers["stop"] = float(numbers["overpaid"] and earlier["overpaid"])
        if config.keep == "last" or numbers["real_return"] >= self.iterations.best("real_return"):
            self._save(numbers)
        return numbers

    def close(self) -> None:
        """Closes the envs."""
        for env in (self._env, self._real, self._dream):
            env.close()

    def _play(self, env: VectorEnv, first: NDArray[np.uint8], seed: int) -> Played:
        config = self._config
        policy = SavedPolicy(
            self.iterations.model.policy,
            num_envs=config.eval_episodes,
            temperature=1.0,
            stack=config.stack,
        )
        seeds = range(seed, seed + config.eval_episodes)
        return play_out(env, first, policy, seeds=seeds, max_steps=config.eval_steps)

    def _is_overpaid(self, numbers: dict[str, float]) -> bool:
        """Returns whether the dream return exceeds the real return by more than is allowed.

        The limit is `max_overpay` - 1 times the current real return, or times the real return in
        the first evaluation if that was larger.
        """
        config, real = self._config, numbers["real_return"]
        if config.where == "real" or not config.max_overpay:
            return False
        past = self.iterations.history
        size = max(abs(real), abs(past[0]["real_return"]) if past else 0.0)
        return numbers["dream_return"] - real > (config.max_overpay - 1) * size

    def _save(self, numbers: dict[str, float]) -> None:
        config, card = self._config, self._card
        described = PolicyCard(
            env_id=card.env_id,
            action_set=card.action_set,
            action_meanings=card.action_meanings,
            frame_shape=(card.frame_size, card.frame_size, 3),
            features=config.features,
            stack=config.stack,
            memory=config.memory,
            observes={key: value for key, value in card.env_kwargs.items() if key in LOOKS},
            training={**settings_of(config), **numbers},
        )
        save_policy(config.out, described, self.iterations.model.policy)


def settings_of(config: DreamTrainConfig) -> dict[str, Any]:
    """Returns the settings as JSON values, with the fingerprint of the dataset as `starts`."""
    starts = None if config.starts is None else EpisodeDataset(config.starts).fingerprint
    return {**asdict(config), "out": str(config.out), "starts": starts}
