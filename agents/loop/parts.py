"""Does the work of a loop's stages: collects data, and fine-tunes and packs a world model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from agents.loop.recipes import LoopRecipe
from genie_gym.build import work
from genie_gym.build.stages import Stage
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.envs.loaded_worlds import open_world
from world_models.episodes import EpisodeDataset, existing_indices
from world_models.tokenizers.motion.tokenizer import MotionTokenizer
from world_models.training.config import FitConfig
from world_models.training.run_options import DataOptions, DynamicsOptions

__all__ = ["Parts"]

_BLOCK = 20  # episodes added at a time; fewer if they could have too many frames


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Does the work of the stages for one game.

    Attributes:
        recipe: The game, and the size of each stage.
        seed: Seed of all randomness.
    """

    recipe: LoopRecipe
    seed: int

    def collect(
        self, data: Path, policy: str, episodes: int, seed: int, epsilon: float = 0.0
    ) -> bool:
        """Collects episodes; returns True once all are collected."""
        return collect(self._collection(data, policy, episodes, seed, epsilon)) == 0

    def collect_frames(
        self, data: Path, policy: str, frames: int, seed: int, epsilon: float = 0.0
    ) -> bool:
        """Adds blocks of episodes until `data` has at least `frames` frames."""
        block = max(1, min(_BLOCK, frames // self.recipe.max_steps))
        owns = self._collection(data, policy, block, seed, epsilon).collection().owns
        done = len(existing_indices(data, where=owns))
        episodes = block * max(1, math.ceil(done / block))  # finish a partial block first
        while self.collect(data, policy, episodes, seed, epsilon):
            if EpisodeDataset(data).num_frames.sum() >= frames:
                return True
            episodes += block
        return False

    def fine_tuning(
        self, prefix: str, folder: Path, data: Path, before: str, after: Path
    ) -> list[Stage]:
        """Returns the stages that fine-tune a world model on more data.

        Args:
            prefix: Prefix of the stages' names.
            folder: Folder for the training runs.
            data: Dataset collected by the stage ``{prefix}data``, which must run first.
            before: Name or path of the world model to fine-tune.
            after: Folder for the fine-tuned world model.
        """
        recipe = self.recipe
        fits = recipe.training.tokenizer.fit, recipe.training.dynamics.fit

        def tokenizer() -> bool:
            fit = _shortened(fits[0], recipe.decoder_steps)
            return self.tokenizer(data, folder / "tokenizer", before, fit)

        def dynamics() -> bool:
            fit = _shortened(fits[1], recipe.dynamics_steps)
            return self.dynamics(data, folder / "dynamics", folder / "tokenizer", before, fit)

        def world() -> bool:
            return self.bundle(data, folder / "tokenizer", folder / "dynamics", after)

        return [
            Stage(name=f"{prefix}tokenizer", needs=(f"{prefix}data",), run=tokenizer),
            Stage(name=f"{prefix}dynamics", needs=(f"{prefix}tokenizer",), run=dynamics),
            Stage(name=f"{prefix}world", needs=(f"{prefix}dynamics",), run=world),
        ]

    def tokenizer(self, data: Path, out: Path, world: str | None, fit: FitConfig) -> bool:
        """Trains a tokenizer, or fine-tunes the decoder of a world model's tokenizer."""
        recipe = replace(self.recipe.training.tokenizer, fit=replace(fit, seed=self.seed))
        return work.train_tokenizer(recipe, DataOptions(data=data, out=out, from_world=world))

    def dynamics(
        self, data: Path, out: Path, tokenizer: Path, world: str | None, fit: FitConfig
    ) -> bool:
        """Trains a dynamics model, or fine-tunes a world model's dynamics."""
        recipe = replace(self.recipe.training.dynamics, fit=replace(fit, seed=self.seed))
        if world and not isinstance(open_world(world).model.tokenizer, MotionTokenizer):
            recipe = replace(recipe, corruption=0.0)  # corruption requires a motion tokenizer
        options = DynamicsOptions(data=data, out=out, from_world=world, tokenizer=str(tokenizer))
        return work.train_dynamics(recipe, options)

    def bundle(self, data: Path, tokenizer: Path, dynamics: Path, out: Path) -> bool:
        """Packs a world model; a fine-tuned one keeps its sampling settings."""
        storage = self.recipe.storage
        return work.bundle(out, data=data, tokenizer=tokenizer, dynamics=dynamics, storage=storage)

    def _collection(
        self, data: Path, policy: str, episodes: int, seed: int, epsilon: float
    ) -> CollectConfig:
        return CollectConfig(
            env=self.recipe.env,
            out=data,
            policy=policy,
            episodes=episodes,
            max_steps=self.recipe.max_steps,
            seed=seed,
            epsilon=epsilon,
            env_kwargs=self.recipe.env_kwargs,
        )


def _shortened(fit: FitConfig, steps: int) -> FitConfig:
    """Returns the settings for `steps` steps, with warm-up and save interval scaled to match."""
    share = steps / fit.steps
    return replace(
        fit,
        steps=steps,
        warmup_steps=min(fit.warmup_steps, max(1, round(fit.warmup_steps * share))),
        save_every=min(fit.save_every, max(1, round(fit.save_every * share))),
    )
