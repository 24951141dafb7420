"""The stages that build a world model; each stage uses the results of earlier stages."""

from __future__ import annotations

import importlib
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genie_gym.build import work
from genie_gym.build.result import write_fault
from genie_gym.build.sizes import Scaled, Sizes
from genie_gym.build.stages import Stage
from genie_gym.collect.command import CollectConfig
from world_models.episodes import merge
from world_models.files import atomic_directory
from world_models.training.recipes import DynamicsRecipe, Recipe, TokenizerRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions

__all__ = ["ROUND_SHARES", "SHARES", "Build"]

# Relative time of each stage for the first world. Time that a stage does not use goes to later
# stages.
SHARES = {"collect": 12.0, "tokenizer": 20.0, "dynamics": 58.0, "score": 10.0}
# Relative time of each stage in a round, which fine-tunes the world on an agent's episodes.
ROUND_SHARES = {"agent": 16.0, "collect": 6.0, "dynamics": 20.0, "score": 8.0}
# A string, because this layer must not import the layers above it.
FIDELITY = "benchmarks.fidelity:main"
TRAIN_AGENT = "agents.dream_train:train_for"


@dataclass
class Build:
    """The stages that build one world in one folder.

    A recipe calls the methods in order. Each method adds a stage and returns the folder of the
    stage's result, to be passed to later calls.

    Attributes:
        name: Name of the finished world.
        env: Env id of the real game.
        out: Folder of the build. Finished worlds are in its subfolder ``worlds``.
        sizes: Decides how many episodes are collected and how long each part is trained.
        stages: The stages added so far.
    """

    name: str
    env: str
    out: Path
    sizes: Sizes = field(default_factory=Scaled)
    stages: list[Stage] = field(default_factory=list)

    def collect(
        self,
        name: str,
        policy: str,
        episodes: int,
        *,
        max_steps: int = 500,
        seed: int = 0,
        into: Path | None = None,
        share: float = SHARES["collect"],
        env_kwargs: Mapping[str, object] | None = None,
    ) -> Path:
        """Collect episodes into a new dataset, or add them to the dataset `into`.

        `env_kwargs` are further arguments for the env.
        """
        stage, out = f"data-{name}", into or self.out / "data" / name
        config = CollectConfig(
            env=self.env,
            out=out,
            policy=policy,
            episodes=episodes,
            max_steps=max_steps,
            seed=seed,
            env_kwargs={key: str(value) for key, value in (env_kwargs or {}).items()},
        )

        def run() -> bool:
            return self.sizes.collect(stage, config, self._due(stage))

        return self._add(stage, out, run, share)

    def agent(self, name: str, world: Path, starts: Path) -> Path:
        """Train an agent in dreams that start from frames in the dataset `starts`."""
        stage, out = f"agent-{name}", self.out / "runs" / f"agent-{name}"

        def run() -> bool:
            minutes = self.sizes.minutes(stage, self._due(stage))
            _named(TRAIN_AGENT)(world, out=out, starts=starts, minutes=minutes)
            return True

        return self._add(stage, out, run, ROUND_SHARES["agent"])

    def merge(self, name: str, *sources: Path) -> Path:
        """Merge datasets into a new one."""
        out = self.out / "data" / name

        def run() -> bool:
            merge(sources, out)
            return True

        return self._add(f"data-{name}", out, run)

    def tokenizer(self, recipe: TokenizerRecipe, data: Path) -> Path:
        """Train the world model's tokenizer on a dataset."""
        out = self.out / "runs" / "tokenizer"
        options = DataOptions(data=data, out=out)
        share = SHARES["tokenizer"]
        return self._add_training("tokenizer", recipe, options, work.train_tokenizer, share)

    def dynamics(
        self,
        name: str,
        recipe: DynamicsRecipe,
        data: Path,
        *,
        tokenizer: Path | None = None,
        world: Path | None = None,
        outcome_only: bool = False,
        share: float = SHARES["dynamics"],
    ) -> Path:
        """Train a dynamics model on a tokenizer's tokens, or fine-tune a world's dynamics model."""
        out = self.out / "runs" / name
        options = DynamicsOptions(
            data=data,
            out=out,
            tokenizer=None if tokenizer is None else str(tokenizer),
            from_world=None if world is None else str(world),
            outcome_only=outcome_only,
        )
        return self._add_training(name, recipe, options, work.train_dynamics, share)

    def bundle(
        self, name: str, data: Path, tokenizer: Path, dynamics: Path, **options: Any
    ) -> Path:
        """Write a world bundle. Further arguments are fields of `BundleOptions`.

        The last component of `name` is the world's name: ``round-1/Boxing`` is a world named
        Boxing.
        """
        out = self.out / "worlds" / name
        options = {"storage": "float32", **options}
        return self._add(
            f"world-{self._label(out)}",
            out,
            lambda: work.bundle(out, data=data, tokenizer=tokenizer, dynamics=dynamics, **options),
        )

    def score(self, world: Path, *arguments: str, share: float = SHARES["score"]) -> Path:
        """Compare the world with the real game and record the scores in its card.

        If scoring fails, the stage still counts as done, and the score file contains the error.
        """
        stage = f"score-{self._label(world)}"

        def run() -> bool:
            figures = ("--json", str(self.figures(world)))
            try:
                checks = self.sizes.checks(world, self._due(stage))
                options = ("--record", *figures, *checks, *arguments)
                return _named(FIDELITY)([str(world), *options]) == 0
            except Exception as fault:  # a trained world is useful even without scores
                traceback.print_exc()
                write_fault(self.figures(world), fault)
                return True

        return self._add(stage, world, run, share)

    def figures(self, world: Path) -> Path:
        """Return the path of the JSON file with a world's scores."""
        return self.out / f"fidelity-{self._label(world)}.json"

    def install(self, world: Path, folder: Path) -> Path:
        """Copy a finished world into a folder of worlds, replacing a world of the same name."""
        out = folder / world.name

        def run() -> bool:
            with atomic_directory(out, replace=True) as part:
                shutil.copytree(world, part, dirs_exist_ok=True)
            return True

        return self._add("install", out, run)

    def _label(self, world: Path) -> str:
        """Return the name of a world within the build, such as Boxing or Boxing-round-1."""
        folders = world.relative_to(self.out / "worlds").parts
        return "-".join((folders[-1], *folders[:-1]))

    def _due(self, stage: str) -> float:
        """Return the fraction of the build time after which a stage should end."""
        names = [known.name for known in self.stages]
        shares = [known.share for known in self.stages]
        return sum(shares[: names.index(stage) + 1]) / sum(shares)

    def _add(self, name: str, out: Path, run: Callable[[], bool], share: float = 0.0) -> Path:
        needs = (self.stages[-1].name,) if self.stages else ()
        self.stages.append(Stage(name=name, needs=needs, run=run, share=share))
        return out

    def _add_training(
        self,
        name: str,
        recipe: Recipe,
        options: DataOptions,
        train: Callable[[Any, Any], bool],
        share: float,
    ) -> Path:
        def run() -> bool:
            return self.sizes.train(name, recipe, options, train, self._due(name))

        return self._add(name, options.out, run, share)


def _named(target: str) -> Callable[..., Any]:
    """Return the function that ``MODULE:FUNCTION`` names."""
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)
