"""Fits a build into a time limit: chooses the numbers of episodes and training steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from genie_gym.build.sizes import MIN_STEPS, Train, lasting
from genie_gym.build.stages import Manifest
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.evaluation.turns import turns
from world_models.episodes import EpisodeDataset, existing_indices
from world_models.files import write_json
from world_models.training.recipes import Recipe, TokenizerRecipe
from world_models.training.run_options import DataOptions
from world_models.worlds.card import WorldCard

__all__ = ["Timed", "dream_speed"]

_FRAMES_PER_MINUTE = 8000  # maximum number to collect; there is no time to train on more
_FIRST_EPISODES = 4  # played first, to measure the speed
_MIN_EPISODES = 8
_TRIAL_STEPS = 4  # training steps of warm-up; then the same number is timed
_LEAST_SHARE = 0.02  # minimum fraction of the build time for a training run, even in a late build
_NET = 0.95  # fraction of a run's time for steps; the rest is for startup and the last checkpoint
_NET_OF_EVALUATION = 0.8  # fraction of an agent's time for training; the rest is for evaluation
_FASTER = 4  # if the machine becomes faster, train at most this many times the planned steps
# The checks, largest first. Each has: number of dreamed frames; further dreamed frames per policy
# that is tested for too high dreamed returns; number of real episodes; arguments for
# `bench fidelity`.
_CHECKS: tuple[tuple[int, int, int, str], ...] = (
    (34200, 8 * 100, 64, ""),
    (9040, 2 * 30, 24, "--quick"),
    (
        1540,
        2 * 30,
        4,
        "--quick --episodes=4 --windows=4 --event-windows=4 --long-dreams=2 --long-frames=100",
    ),
)
_LEAST_CHECK = (
    "--quick --episodes=1 --max-steps=20 --windows=2 --event-windows=1 --steps=4 --long-frames=0"
)
_DREAMS, _DREAM_STEPS = 8, 5  # number of dreams that are timed, and of steps in each


class Timed:
    """Sizes that make the whole build end on time, even if the machine's speed changes.

    Each stage is due after a fraction of the build time, and may use the time left until then.
    Training ends when its time is up (`FitConfig.minutes`). Collection stops when there is no time
    for another episode. The final scores come from the largest check (number of dreamed frames and
    real episodes) for which the world model is fast enough.

    The sizes are stored in ``plan.json``, so that a resumed stage uses the same ones.

    Args:
        minutes: Time for the whole build.
        out: Folder of the build.
        manifest: The log of the build's stages, with the time that each stage took.
        speed: Measures how many frames per second a world dreams.
    """

    def __init__(
        self,
        minutes: float,
        out: Path,
        manifest: Manifest,
        speed: Callable[[Path], float] | None = None,
    ):
        self._seconds, self._plan, self._manifest = 60 * minutes, out / "plan.json", manifest
        self._speed = speed or dream_speed

    def collect(self, stage: str, config: CollectConfig, due: float) -> bool:
        """Collects as many episodes as fit, in blocks; each block takes half of the time left."""
        plan = {"episodes": 0, "used": 0.0, **self._planned(stage, due)}
        done = plan["episodes"] and plan["episodes"] - 1  # the last block may be incomplete
        episodes = plan["episodes"] or _FIRST_EPISODES + _played(config)
        while episodes > done:
            plan["episodes"] = episodes
            self._keep(stage, plan)
            begun = time.monotonic()
            if collect(replace(config, episodes=episodes)):
                return False
            took = time.monotonic() - begun
            plan["used"] += took
            pace = max(took / (episodes - done), plan["used"] / episodes)
            done, fitting = episodes, int((plan["seconds"] - plan["used"]) / pace)
            most = int(_FRAMES_PER_MINUTE * plan["seconds"] / 60 / _length(config))
            episodes = max(min(done + ceil(fitting / 2), most), _MIN_EPISODES)
        self._keep(stage, plan)
        return True

    def train(
        self, stage: str, recipe: Recipe, options: DataOptions, train: Train, due: float
    ) -> bool:
        """Trains until the stage is due; a few steps are timed first, to plan the warm-up."""
        plan = self._planned(stage, due)
        if "steps" not in plan:
            started = time.monotonic()
            trial = options.out.with_name(f"{options.out.name}-trial")
            fit = replace(lasting(recipe, 2 * _TRIAL_STEPS).fit, save_every=_TRIAL_STEPS)
            if not train(replace(recipe, fit=fit), replace(options, out=trial)):
                return False
            step = recipe.fit.batch_size * recipe.frames / _trained_speed(trial)
            left = plan["seconds"] - (time.monotonic() - started)
            plan["training"] = _NET * max(_LEAST_SHARE * self._seconds, left)
            plan["steps"] = max(MIN_STEPS, int(plan["training"] / step))
            self._keep(stage, plan)
        planned = lasting(recipe, int(plan["steps"]))
        most = _FASTER * planned.fit.steps
        if isinstance(recipe, TokenizerRecipe):
            most = min(most, recipe.fit.steps)
        fit = replace(planned.fit, steps=most, minutes=plan["training"] / 60)
        return train(replace(planned, fit=fit), options)

    def minutes(self, stage: str, due: float) -> float:
        """Returns the minutes until the stage is due, less the time for its final evaluation."""
        least = _LEAST_SHARE * self._seconds
        return _NET_OF_EVALUATION * max(least, self._planned(stage, due)["seconds"]) / 60

    def checks(self, world: Path, due: float) -> tuple[str, ...]:
        """See `Sizes.checks`. Chooses the largest check that fits into the time left."""
        left = due * self._seconds - self._took()
        speed, policies = self._speed(world), 1 + len(turns(WorldCard.read(world).num_actions))
        for frames, each, episodes, arguments in _CHECKS:
            if left >= (frames + policies * each) / speed + episodes * self._pace():
                return tuple(arguments.split())
        return tuple(_LEAST_CHECK.split())

    def _planned(self, stage: str, due: float) -> dict[str, Any]:
        """Returns a stage's plan; a new plan contains the seconds until the stage is due."""
        if stage not in (plans := self._read()):
            self._keep(stage, {"seconds": due * self._seconds - self._took()})
            plans = self._read()
        return plans[stage]

    def _keep(self, stage: str, plan: dict[str, Any]) -> None:
        write_json(self._plan, {**self._read(), stage: plan})

    def _read(self) -> dict[str, dict[str, Any]]:
        return json.loads(self._plan.read_text()) if self._plan.exists() else {}

    def _took(self) -> float:
        return sum(entry.get("seconds", 0) for entry in self._manifest.entries())

    def _pace(self) -> float:
        """Returns the mean seconds per collected episode so far."""
        played = [plan for plan in self._read().values() if plan.get("episodes")]
        return max((plan["used"] / plan["episodes"] for plan in played), default=0.0)


def dream_speed(world: Path) -> float:
    """Returns the total frames per second of a few dreams that run in parallel."""
    env = GenieVectorEnv(world, _DREAMS, dtype="float32")
    env.reset(seed=0)
    action = np.zeros(_DREAMS, np.int64)
    env.step(action)  # warms up
    started = time.monotonic()
    for _ in range(_DREAM_STEPS):
        env.step(action)
    env.close()
    return _DREAMS * _DREAM_STEPS / (time.monotonic() - started)


def _played(config: CollectConfig) -> int:
    return len(existing_indices(config.out, where=config.collection().owns))


def _length(config: CollectConfig) -> float:
    return float(EpisodeDataset(config.out).num_frames.mean())


def _trained_speed(run: Path) -> float:
    """Returns the frames per second in the last steps of a training run."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [entry["frames_per_s"] for entry in entries if entry["group"] == "train"][-1]
