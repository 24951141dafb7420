"""Recipes: functions that return the complete settings of a training run.

For a variant, call a recipe and change its result with `dataclasses.replace`. All recipes except
`paper` are short enough for a CPU. More steps (``--fit.steps``) make better world models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from world_models import presets
from world_models.model.dynamics import DynamicsConfig
from world_models.model.latent_action import LatentActionConfig
from world_models.model.losses import DynamicsLossConfig
from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.parts import TokenizerConfig
from world_models.tokenizers.vq import VQTokenizerConfig
from world_models.training.config import FitConfig

__all__ = [
    "RECIPES",
    "DynamicsRecipe",
    "LatentActionRecipe",
    "Recipe",
    "TokenizerRecipe",
    "WorldRecipe",
]

# With squared error alone, small moving sprites would disappear.
SPRITES = ReconstructionLossConfig(changed_weight=20.0, l1_weight=0.05, revive_after=100)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings for a training run.

    Attributes:
        model: Architecture of the model.
        loss: Weights of the loss.
        fit: Optimisation settings.
        frames: Number of frames per training window.
    """

    model: Any
    loss: Any
    fit: FitConfig
    frames: int = 16


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(Recipe):
    """Settings for a tokenizer run."""

    model: TokenizerConfig
    loss: ReconstructionLossConfig


@dataclass(frozen=True, kw_only=True)
class LatentActionRecipe(Recipe):
    """Settings for a latent action run."""

    model: LatentActionConfig
    loss: ReconstructionLossConfig


@dataclass(frozen=True, kw_only=True)
class DynamicsRecipe(Recipe):
    """Settings for a dynamics run.

    Attributes:
        token_stride: Number of frames between the starts of successive cached token windows. A
            smaller stride takes more disk space. Ignored for tokenizers whose windows can start at
            any frame.
        corruption: Replace up to this fraction, in [0, 1], of an episode's tokens at random. The
            tokens of the next frame then correct the error, so the dynamics model learns to correct
            mistakes. Must be 0 unless the tokenizer is a motion tokenizer.
        self_forcing: Replace up to this fraction, in [0, 1], of an episode's frames with dreams
            from the world model that is fine-tuned, so that it learns to correct its own mistakes.
            Must be 0 unless the tokenizer is a motion tokenizer.
        events: Fraction of training windows, in [0, 1], that are sampled from the windows with a
            reward or a termination. Both are rare, and are learned sooner if oversampled.
    """

    model: DynamicsConfig
    loss: DynamicsLossConfig
    token_stride: int = 8
    corruption: float = 0.0
    self_forcing: float = 0.0
    events: float = 0.0

    def __post_init__(self) -> None:
        for name in ("corruption", "self_forcing", "events"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class WorldRecipe:
    """Settings for all training runs that make a world model."""

    tokenizer: TokenizerRecipe
    latent_action: LatentActionRecipe
    dynamics: DynamicsRecipe


def coinrun() -> WorldRecipe:
    """CoinRun on a CPU."""
    recipe = _motion(presets.coinrun(), tokenizer_steps=800, dynamics_steps=900, dynamics_batch=16)
    loss = replace(recipe.dynamics.loss, changed_weight=4.0, mask_steps=2)
    return replace(recipe, dynamics=replace(recipe.dynamics, loss=loss, frames=8))


def atari() -> WorldRecipe:
    """One Atari 2600 game with the five actions of `retroact-5`, on a CPU."""
    recipe = _motion(presets.atari(), tokenizer_steps=400, dynamics_steps=4000, dynamics_batch=4)
    tokenizer, dynamics = recipe.tokenizer, recipe.dynamics
    fit = replace(tokenizer.fit, ema_decay=0.0)  # averaging would blur the patches
    longer = replace(dynamics.fit, learning_rate=2e-3, save_every=500)
    return replace(
        recipe,
        tokenizer=replace(tokenizer, fit=fit),
        dynamics=replace(dynamics, fit=longer),
    )


def atari_many() -> WorldRecipe:
    """Many Atari 2600 games with the five actions of `retroact-5`, on a CPU."""
    return _motion(presets.atari_many(), tokenizer_steps=500, dynamics_steps=1800, dynamics_batch=4)


def paper() -> WorldRecipe:
    """GenieRedux-G as published, on 8 GPUs: ``torchrun --nproc-per-node 8``.

    The learning rate warms up from 0. In the paper, the warm-up starts at half the learning rate.
    """
    world = presets.paper()
    fit = FitConfig(
        steps=72_000,
        batch_size=14,
        learning_rate=1e-4,
        min_learning_rate=5e-5,
        warmup_steps=5_000,
        ema_decay=0.0,
    )
    loss = ReconstructionLossConfig()
    return WorldRecipe(
        tokenizer=TokenizerRecipe(model=world.tokenizer, loss=loss, fit=fit),
        latent_action=LatentActionRecipe(
            model=world.latent_action, loss=loss, fit=replace(fit, steps=150_000)
        ),
        dynamics=DynamicsRecipe(
            model=world.dynamics,
            loss=DynamicsLossConfig(),
            fit=replace(fit, steps=180_000, batch_size=10),
        ),
    )


def coinrun_tiny() -> WorldRecipe:
    """CoinRun within minutes, for tests and for comparing variants with each other."""
    world = presets.small(num_actions=7)
    coder, transformer = (
        replace(model.transformer, dim=96, num_layers=2, num_heads=2, head_dim=32, window=8)
        for model in (world.latent_action, world.dynamics)
    )
    tokenizer = VQTokenizerConfig(patch=8, transformer=coder, num_codes=256)
    fit = FitConfig(
        steps=1_000,
        batch_size=8,
        learning_rate=2e-3,
        warmup_steps=50,
        save_every=250,
        ema_decay=0.99,
    )
    return WorldRecipe(
        tokenizer=TokenizerRecipe(model=tokenizer, loss=SPRITES, fit=fit, frames=8),
        latent_action=LatentActionRecipe(
            model=replace(world.latent_action, transformer=coder), loss=SPRITES, fit=fit, frames=8
        ),
        dynamics=DynamicsRecipe(
            model=replace(world.dynamics, transformer=transformer),
            loss=DynamicsLossConfig(changed_weight=4.0, context_noise=0.1),
            fit=replace(fit, batch_size=4),
            frames=8,
        ),
    )


RECIPES: dict[str, Callable[[], WorldRecipe]] = {
    "coinrun-tiny": coinrun_tiny,
    "coinrun": coinrun,
    "atari": atari,
    "atari-many": atari_many,
    "paper": paper,
}


def _motion(
    world: presets.WorldConfig, tokenizer_steps: int, dynamics_steps: int, dynamics_batch: int
) -> WorldRecipe:
    """Return settings for a world model with a motion tokenizer."""
    fit = FitConfig(
        steps=tokenizer_steps,
        batch_size=12,
        learning_rate=1.5e-3,
        warmup_steps=50,
        ema_decay=0.99,
        save_every=100,
    )
    return WorldRecipe(
        tokenizer=TokenizerRecipe(model=world.tokenizer, loss=SPRITES, fit=fit, frames=8),
        latent_action=LatentActionRecipe(
            model=world.latent_action, loss=SPRITES, fit=replace(fit, batch_size=4)
        ),
        dynamics=DynamicsRecipe(
            model=world.dynamics,
            loss=DynamicsLossConfig(
                changed_weight=20.0,
                event_weight=5.0,
                context_noise=0.1,
                mask_steps=4,  # below the default: sampling decides most tokens in its first pass
            ),
            fit=replace(fit, steps=dynamics_steps, batch_size=dynamics_batch, save_every=200),
            corruption=0.1,
        ),
    )
