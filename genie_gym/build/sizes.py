"""How much a build plays and trains: as its recipe says, a share of that, or what time allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from genie_gym.build.stages import Manifest
from genie_gym.collect.command import CollectConfig, collect
from world_models.episodes import EpisodeDataset, existing_indices
from world_models.files import write_json
from world_models.training.recipes import Recipe
from world_models.training.run_options import DataOptions

__all__ = ["Scaled", "Sizes", "Timed"]

Train = Callable[[Any, Any], bool]  # takes a recipe and options; False if it was interrupted


class Sizes(Protocol):
    """Decides the sizes of stages and does their work; False if it was interrupted."""

    def collect(self, config: CollectConfig) -> bool:
        """Collects episodes."""

    def train(self, stage: str, recipe: Recipe, options: DataOptions, train: Train) -> bool:
        """Trains a part of the world."""

    def checks(self) -> tuple[str, ...]:
        """Returns further arguments of the comparison with the real game."""


@dataclass(frozen=True)
class Scaled:
    """The recipe's own numbers of episodes and steps, times a factor.

    Attributes:
        factor: Below 1 for a quick trial.
    """

    factor: float = 1.0

    def collect(self, config: CollectConfig) -> bool:
        """See `Sizes.collect`."""
        return collect(replace(config, episodes=self._scaled(config.episodes))) == 0

    def train(self, stage: str, recipe: Recipe, options: DataOptions, train: Train) -> bool:
        """See `Sizes.train`."""
        if self.factor != 1:
            recipe = lasting(recipe, self._scaled(recipe.fit.steps))
        return train(recipe, options)

    def checks(self) -> tuple[str, ...]:
        """See `Sizes.checks`."""
        return ("--quick",) if self.factor < 1 else ()

    def _scaled(self, number: int) -> int:
        return max(1, round(number * self.factor))


# Shares of the whole time. What a stage leaves over goes to the dynamics, which is trained last.
_SHARES = {"play": 0.12, "tokenizer": 0.2, "check": 0.18}
_FRAMES_PER_MINUTE = 1000  # more frames than this could not be encoded and learned from in time
_FIRST_EPISODES = 4  # are timed
_MIN_EPISODES = 8
_TRIAL_STEPS = 4  # warm up, and as many are timed
_MIN_STEPS = 10
_OVERHEAD = 0.9  # the share of a training's time that is not spent on checkpoints and pictures
# From how many minutes on a check fits in, and its arguments.
_CHECKS: tuple[tuple[float, dict[str, int]], ...] = (
    (5.0, {}),
    (1.0, {"episodes": 4, "windows": 4, "event-windows": 4, "long-dreams": 1, "long-frames": 100}),
    (
        0.0,
        {
            "episodes": 1,
            "max-steps": 20,
            "windows": 2,
            "event-windows": 1,
            "steps": 4,
            "long-frames": 0,
        },
    ),
)


class Timed:
    """What a machine can do in some minutes: a few steps are timed before each stage.

    The numbers are kept in ``plan.json``, so that a resumed stage has the same ones.

    Args:
        minutes: Time for the whole build.
        out: Folder of the build.
        manifest: The log of its stages, which has the time that they took.
    """

    def __init__(self, minutes: float, out: Path, manifest: Manifest):
        self._seconds, self._plan, self._manifest = 60 * minutes, out / "plan.json", manifest

    def collect(self, config: CollectConfig) -> bool:
        """Plays as many episodes as fit in; at most those of the recipe per hour."""
        if (episodes := self._planned("episodes")) is None:
            owns = config.collection().owns
            before = len(existing_indices(config.out, where=owns))
            started = time.monotonic()
            first = before + _FIRST_EPISODES
            if collect(replace(config, episodes=first)):
                return False
            seconds = (time.monotonic() - started) / _FIRST_EPISODES
            length = float(EpisodeDataset(config.out).num_frames.mean())
            most = _FRAMES_PER_MINUTE * self._seconds / 60 / length
            episodes = int(min(_SHARES["play"] * self._seconds / seconds, most))
            episodes = self._keep("episodes", max(episodes, first, _MIN_EPISODES))
        return collect(replace(config, episodes=episodes)) == 0

    def train(self, stage: str, recipe: Recipe, options: DataOptions, train: Train) -> bool:
        """Trains as many steps as fit in."""
        if (steps := self._planned(stage)) is None:
            started = time.monotonic()
            trial = options.out.with_name(f"{options.out.name}-trial")
            fit = replace(lasting(recipe, 2 * _TRIAL_STEPS).fit, save_every=_TRIAL_STEPS)
            if not train(replace(recipe, fit=fit), replace(options, out=trial)):
                return False
            step = recipe.fit.batch_size * recipe.frames / _speed(trial)
            left = self._left(stage) - (time.monotonic() - started)
            steps = max(_MIN_STEPS, int(_OVERHEAD * left / step))
            if stage == "tokenizer":
                steps = min(steps, recipe.fit.steps)
            self._keep(stage, steps)
        return train(lasting(recipe, steps), options)

    def checks(self) -> tuple[str, ...]:
        """A quick check, smaller still where minutes are few."""
        few = next(few for minutes, few in _CHECKS if self._seconds >= 60 * minutes)
        return ("--quick", *(f"--{name}={value}" for name, value in few.items()))

    def _left(self, stage: str) -> float:
        """Returns the seconds for a stage that begins now."""
        if stage == "tokenizer":
            return _SHARES["tokenizer"] * self._seconds
        took = sum(entry.get("seconds", 0) for entry in self._manifest.entries())
        return (1 - _SHARES["check"]) * self._seconds - took

    def _planned(self, name: str) -> int | None:
        return self._read().get(name)

    def _keep(self, name: str, number: int) -> int:
        write_json(self._plan, {**self._read(), name: number})
        return number

    def _read(self) -> dict[str, int]:
        return json.loads(self._plan.read_text()) if self._plan.exists() else {}


def lasting(recipe: Any, steps: int) -> Any:
    """Returns the recipe with another number of steps."""
    fit = recipe.fit
    fit = replace(
        fit,
        steps=steps,
        warmup_steps=min(fit.warmup_steps, max(1, steps // 5)),
        save_every=min(fit.save_every, max(_MIN_STEPS, steps // 5)),
    )
    return replace(recipe, fit=fit)


def _speed(run: Path) -> float:
    """Returns the frames per second of a run's last steps."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [entry["frames_per_s"] for entry in entries if entry["group"] == "train"][-1]
