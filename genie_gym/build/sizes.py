"""The sizes of a build's stages: the numbers in its recipe, or a fraction of these numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from genie_gym.collect.command import CollectConfig, collect
from world_models.training.recipes import Recipe
from world_models.training.run_options import DataOptions

__all__ = ["Scaled", "Sizes", "Train", "lasting"]

MIN_STEPS = 10
Train = Callable[[Any, Any], bool]  # takes a recipe and options; returns False if interrupted


class Sizes(Protocol):
    """Decides how many episodes each stage collects or how long it trains, and runs the stage.

    `collect` and `train` return False if they were interrupted. Their argument `due` is the
    fraction of the build time after which the stage should end.
    """

    def collect(self, stage: str, config: CollectConfig, due: float) -> bool:
        """Collects episodes."""

    def train(
        self, stage: str, recipe: Recipe, options: DataOptions, train: Train, due: float
    ) -> bool:
        """Trains a part of the world model: its tokenizer or its dynamics model."""

    def minutes(self, stage: str, due: float) -> float | None:
        """Returns the minutes to train an agent; None to train for the recipe's number of steps."""

    def checks(self, world: Path, due: float) -> tuple[str, ...]:
        """Returns extra arguments for ``genie-gym bench fidelity``, which scores the world."""


@dataclass(frozen=True)
class Scaled:
    """Multiplies the recipe's numbers of episodes and steps by a factor.

    Attributes:
        factor: The factor; less than 1 for a quick trial.
    """

    factor: float = 1.0

    def collect(self, stage: str, config: CollectConfig, due: float) -> bool:
        """See `Sizes.collect`."""
        return collect(replace(config, episodes=self._scaled(config.episodes))) == 0

    def train(
        self, stage: str, recipe: Recipe, options: DataOptions, train: Train, due: float
    ) -> bool:
        """See `Sizes.train`."""
        if self.factor != 1:
            recipe = lasting(recipe, self._scaled(recipe.fit.steps))
        return train(recipe, options)

    def minutes(self, stage: str, due: float) -> float | None:
        """See `Sizes.minutes`."""
        return None

    def checks(self, world: Path, due: float) -> tuple[str, ...]:
        """See `Sizes.checks`."""
        return ("--quick",) if self.factor < 1 else ()

    def _scaled(self, number: int) -> int:
        return max(1, round(number * self.factor))


def lasting(recipe: Any, steps: int) -> Any:
    """Returns the recipe with this number of training steps."""
    fit = recipe.fit
    fit = replace(
        fit,
        steps=steps,
        warmup_steps=min(fit.warmup_steps, max(1, steps // 5)),
        save_every=min(fit.save_every, max(MIN_STEPS, steps // 5)),
    )
    return replace(recipe, fit=fit)
