"""Does the work of the stages. Each function does what remains, and returns whether it finished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from world_models.episodes import EpisodeDataset
from world_models.files import remove_leftovers
from world_models.training.package import BundleOptions, build_bundle
from world_models.training.recipes import DynamicsRecipe, TokenizerRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions

__all__ = ["bundle", "has_events", "train_dynamics", "train_tokenizer"]


def train_tokenizer(recipe: TokenizerRecipe, options: DataOptions) -> bool:
    """Train a tokenizer, or fine-tune a world's decoder."""
    from world_models.training import runs  # imports Lightning, which takes seconds

    return runs.train_tokenizer(recipe, options).finished


def train_dynamics(recipe: DynamicsRecipe, options: DynamicsOptions) -> bool:
    """Train a dynamics model, or fine-tune a world's dynamics model."""
    from world_models.training import runs

    if recipe.events and not has_events(options.episodes().split("train")):
        print("no episode has a reward or a termination: the world cannot learn to predict them")
        recipe = replace(recipe, events=0.0)
    return runs.train_dynamics(recipe, options).finished


def has_events(episodes: EpisodeDataset) -> bool:
    """Return whether any step has a reward or terminates its episode."""
    for index, length in enumerate(episodes.num_frames):
        with episodes.skipping():
            episode = episodes.transitions(index, 0, int(length))
            if episode["rewards"].any() or episode["terminated"].any():
                return True
    return False


def bundle(out: Path, **options: Any) -> bool:
    """Write a world bundle. The arguments are fields of `BundleOptions`."""
    remove_leftovers(out.parent)  # left by a process that was killed while it wrote a bundle
    build_bundle(BundleOptions(out=out, replace=True, **options))
    return True
