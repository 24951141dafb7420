"""The stages that build a world; each uses the results of earlier ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genie_gym.build import work
from genie_gym.build.stages import Stage
from genie_gym.collect.command import CollectConfig, collect
from world_models.episodes import merge
from world_models.training.recipes import DynamicsRecipe, TokenizerRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions

__all__ = ["Build"]

FIDELITY = "benchmarks.fidelity:main"  # a string: this layer must not import the layer above


@dataclass
class Build:
    """The stages that build one world in one folder.

    A recipe calls these methods in order. Each adds a stage and returns the folder of the stage's
    result, to be passed to later calls.

    Attributes:
        name: Name of the finished world.
        env: Env id of the real game.
        out: Folder of the build. Finished worlds are in its subfolder ``worlds``.
        scale: Factor on the numbers of episodes and training steps; below 1 for a quick trial.
        stages: The stages added so far.
    """

    name: str
    env: str
    out: Path
    scale: float = 1.0
    stages: list[Stage] = field(default_factory=list)

    def collect(
        self,
        name: str,
        policy: str,
        episodes: int,
        *,
        max_steps: int = 500,
        seed: int = 0,
        **env_kwargs: object,
    ) -> Path:
        """Collect episodes; `env_kwargs` are further arguments of the env."""
        out = self.out / "data" / name
        config = CollectConfig(
            env=self.env,
            out=out,
            policy=policy,
            episodes=self._scaled(episodes),
            max_steps=max_steps,
            seed=seed,
            env_kwargs={key: str(value) for key, value in env_kwargs.items()},
        )
        return self._add(f"data-{name}", out, lambda: collect(config) == 0)

    def merge(self, name: str, *sources: Path) -> Path:
        """Merge datasets."""
        out = self.out / "data" / name

        def run() -> bool:
            merge(sources, out)
            return True

        return self._add(f"data-{name}", out, run)

    def tokenizer(self, recipe: TokenizerRecipe, data: Path) -> Path:
        """Train the tokenizer."""
        out = self.out / "runs" / "tokenizer"
        recipe = self._shortened(recipe)
        return self._add(
            "tokenizer", out, lambda: work.train_tokenizer(recipe, DataOptions(data=data, out=out))
        )

    def dynamics(
        self,
        name: str,
        recipe: DynamicsRecipe,
        data: Path,
        *,
        tokenizer: Path | None = None,
        world: Path | None = None,
        outcome_only: bool = False,
    ) -> Path:
        """Train a dynamics on a tokenizer's tokens, or fine-tune the dynamics of a world."""
        out = self.out / "runs" / name
        options = DynamicsOptions(
            data=data,
            out=out,
            tokenizer=None if tokenizer is None else str(tokenizer),
            from_world=None if world is None else str(world),
            outcome_only=outcome_only,
        )
        recipe = self._shortened(recipe)
        return self._add(name, out, lambda: work.train_dynamics(recipe, options))

    def bundle(
        self, name: str, data: Path, tokenizer: Path, dynamics: Path, **options: Any
    ) -> Path:
        """Write a world. Further arguments are fields of `BundleOptions`."""
        out = self.out / "worlds" / name
        options = {"storage": "float32", **options}
        return self._add(
            f"world-{name}",
            out,
            lambda: work.bundle(out, data=data, tokenizer=tokenizer, dynamics=dynamics, **options),
        )

    def score(self, world: Path, *arguments: str) -> Path:
        """Compare the world with the real game and record the scores in its card."""
        arguments = ("--quick", *arguments) if self.scale < 1 else arguments

        def run() -> bool:
            module, function = FIDELITY.split(":")
            main = getattr(importlib.import_module(module), function)
            return main([str(world), "--record", *arguments]) == 0

        return self._add(f"score-{world.name}", world, run)

    def _add(self, name: str, out: Path, run: Callable[[], bool]) -> Path:
        needs = (self.stages[-1].name,) if self.stages else ()
        self.stages.append(Stage(name=name, needs=needs, run=run))
        return out

    def _scaled(self, number: int) -> int:
        return max(1, round(number * self.scale))

    def _shortened(self, recipe: Any) -> Any:
        fit = recipe.fit
        if self.scale == 1:
            return recipe
        steps = self._scaled(fit.steps)
        fit = replace(fit, steps=steps, warmup_steps=min(fit.warmup_steps, steps))
        return replace(recipe, fit=fit)
