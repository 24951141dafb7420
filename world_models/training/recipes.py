"""Complete runs: a recipe is a function, a variant calls one and uses `dataclasses.replace`.

`coinrun` made the world that comes with the package; it and `atari` are for a CPU, and short: more
``--fit.steps`` make better worlds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from world_models import presets
from world_models.dynamics_config import DynamicsConfig
from world_models.latent_action import LatentActionConfig
from world_models.tokenizer import TokenizerConfig
from world_models.training.config import FitConfig

__all__ = ["RECIPES", "DynamicsRecipe", "LatentActionRecipe", "TokenizerRecipe", "WorldRecipe"]


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe:
    """A tokenizer run.

    Attributes:
        model: The tokenizer.
        fit: The optimisation.
        frames: Frames of a training window.
    """

    model: TokenizerConfig
    fit: FitConfig
    frames: int = 16


@dataclass(frozen=True, kw_only=True)
class LatentActionRecipe:
    """A run of the latent action model.

    Attributes:
        model: The latent action model.
        fit: The optimisation.
        frames: Frames of a training window.
    """

    model: LatentActionConfig
    fit: FitConfig
    frames: int = 16


@dataclass(frozen=True, kw_only=True)
class DynamicsRecipe:
    """A dynamics run.

    Attributes:
        model: The dynamics.
        fit: The optimisation.
        frames: Frames of a training window.
        token_stride: Windows of cached tokens begin at every so many frames of an episode; less
            costs more disk (a tokenizer without time lets them begin anywhere, at no cost).
        slips: Where tokens say what changes: up to this share of an episode's tokens goes wrong on
            the way, and those of the next frame mend what they show. So dreams learn to mend
            themselves.
        dreamed: Likewise, but up to this share of an episode's frames is what the world that is
            gone on with dreams there: its own mistakes are those that it learns to mend.
        events: Share of windows that are chosen for holding a reward or an end: both are rare, and
            more of them are learned sooner.
    """

    model: DynamicsConfig
    fit: FitConfig
    frames: int = 16
    token_stride: int = 8
    slips: float = 0.0
    dreamed: float = 0.0
    events: float = 0.0

    def __post_init__(self) -> None:
        for name in ("slips", "dreamed", "events"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class WorldRecipe:
    """All runs that make a world."""

    tokenizer: TokenizerRecipe
    latent_action: LatentActionRecipe
    dynamics: DynamicsRecipe


def coinrun() -> WorldRecipe:
    """CoinRun on a CPU."""
    recipe = _light(presets.coinrun(), tokenizer_steps=800, dynamics_steps=900, dynamics_batch=16)
    return replace(recipe, dynamics=replace(recipe.dynamics, frames=8))


def atari() -> WorldRecipe:
    """One Atari 2600 game with the five actions of `retroact-5`, on a CPU."""
    recipe = _light(presets.atari(), tokenizer_steps=400, dynamics_steps=1800, dynamics_batch=4)
    fit = replace(recipe.tokenizer.fit, ema_decay=0.0)  # exemplars are no averages
    return replace(recipe, tokenizer=replace(recipe.tokenizer, fit=fit))


def atari_many() -> WorldRecipe:
    """Many Atari 2600 games with the five actions of `retroact-5`, on a CPU."""
    return _light(presets.atari_many(), tokenizer_steps=500, dynamics_steps=1800, dynamics_batch=4)


def paper() -> WorldRecipe:
    """GenieRedux-G as published, on 8 GPUs: ``torchrun --nproc-per-node 8``."""
    world = presets.paper()
    fit = FitConfig(
        steps=72_000,
        batch_size=14,
        learning_rate=1e-4,
        min_learning_rate=5e-5,
        warmup_steps=5_000,
        warmup_from=0.5,
        ema_decay=0.0,
    )
    return WorldRecipe(
        tokenizer=TokenizerRecipe(model=world.tokenizer, fit=fit),
        latent_action=LatentActionRecipe(
            model=world.latent_action, fit=replace(fit, steps=150_000, batch_size=7, accumulate=2)
        ),
        dynamics=DynamicsRecipe(
            model=replace(world.dynamics, objective="paper"),
            fit=replace(fit, steps=180_000, batch_size=10),
        ),
    )


def coinrun_tiny() -> WorldRecipe:
    """CoinRun in minutes: for tests, and for comparing variants with each other."""
    world = presets.small(num_actions=7)
    coder, thinker = (
        replace(model.transformer, dim=96, num_layers=2, num_heads=2, head_dim=32, window=8)
        for model in (world.tokenizer, world.dynamics)
    )
    fit = FitConfig(
        steps=1_000,
        batch_size=8,
        learning_rate=2e-3,
        warmup_steps=50,
        save_every=250,
        ema_decay=0.99,
    )
    return WorldRecipe(
        tokenizer=TokenizerRecipe(
            model=replace(world.tokenizer, transformer=coder, num_codes=256), fit=fit, frames=8
        ),
        latent_action=LatentActionRecipe(
            model=replace(world.latent_action, transformer=coder), fit=fit, frames=8
        ),
        dynamics=DynamicsRecipe(
            model=replace(world.dynamics, transformer=thinker, num_codes=256),
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


def _light(
    world: presets.WorldConfig, tokenizer_steps: int, dynamics_steps: int, dynamics_batch: int
) -> WorldRecipe:
    coder = FitConfig(
        steps=tokenizer_steps,
        batch_size=12,
        learning_rate=1.5e-3,
        warmup_steps=50,
        ema_decay=0.99,
        save_every=100,
        eval_batches=4,
    )
    thinker = replace(coder, steps=dynamics_steps, batch_size=dynamics_batch, save_every=200)
    return WorldRecipe(
        tokenizer=TokenizerRecipe(model=world.tokenizer, fit=coder, frames=8),
        latent_action=LatentActionRecipe(
            model=world.latent_action, fit=replace(coder, batch_size=4)
        ),
        dynamics=DynamicsRecipe(model=world.dynamics, fit=thinker, slips=0.1),
    )
