"""Recipes for the loop, one per game: the settings and the size of each stage.

The paper's three games use the paper's sizes and require GPUs and the ROM; the other games take
hours to days on two CPU cores. Every field can be overridden on the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agents.explore_config import ExploreConfig
from agents.loop.evaluate import WorldEvaluationConfig
from world_models.training.recipes import RECIPES as WORLDS
from world_models.training.recipes import WorldRecipe

__all__ = ["LOOPS", "LoopRecipe", "for_env"]


@dataclass(frozen=True, kw_only=True)
class LoopRecipe:
    """The loop for one game.

    Attributes:
        env: Env id of the real game.
        name: Name of the world models that the loop makes.
        training: How the first world model is trained. Fine-tuning uses the same optimizer
            settings.
        explorer: Settings of the AutoExplore agent; the loop sets the fields `out`, `world`, `seed`
            and `env_kwargs`.
        test_agent: Settings of the agent that is trained on the game's own reward and collects the
            held-out set; the loop sets the fields `out`, `seed` and `env_kwargs`.
        evaluation: How world models are evaluated.
        random_policy: Policy for random play: random (uniform, as in the paper) or sticky.
        random_episodes: Episodes of random play that the first world model is trained on.
        round_frames: Frames that each variant (explored and control) collects per round, rounded up
            to whole episodes.
        test_episodes: Number of episodes in the held-out set.
        max_steps: Maximum steps per episode.
        epsilon: Fraction of the agents' actions that are replaced by random ones.
        decoder_steps: Fine-tuning steps for the tokenizer's decoder per round.
        dynamics_steps: Fine-tuning steps for the dynamics per round.
        storage: Number format in which world models store their matrices.
        env_kwargs: Further arguments of the env.
    """

    env: str
    name: str
    training: WorldRecipe
    explorer: ExploreConfig
    test_agent: ExploreConfig
    evaluation: WorldEvaluationConfig = field(default_factory=WorldEvaluationConfig)
    random_policy: Literal["random", "sticky"] = "random"
    random_episodes: int = 300
    round_frames: int = 60_000
    test_episodes: int = 60
    max_steps: int = 500
    epsilon: float = 0.15
    decoder_steps: int = 1_000
    dynamics_steps: int = 5_000
    storage: Literal["float32", "bfloat16", "int8"] = "float32"
    env_kwargs: dict[str, str] = field(default_factory=dict)


def coinrun() -> LoopRecipe:
    """CoinRun on a hundred hard levels; three hours."""
    base = _small("Procgen/CoinRun-v0", "CoinRun", "coinrun", num_envs=16)
    return replace(
        base,
        explorer=replace(base.explorer, steps=24_000, eval_every=12_000, eval_steps=64),
        test_agent=replace(base.test_agent, steps=100_000),
        evaluation=WorldEvaluationConfig(windows=96, prompt=4),
        random_episodes=220,
        round_frames=16_000,
        test_episodes=40,
        max_steps=256,
        decoder_steps=60,
        dynamics_steps=200,
        env_kwargs={"num_levels": "100", "start_level": "0"},
    )


def hero() -> LoopRecipe:
    """H.E.R.O.: descend a mine shaft."""
    return _small("RetroAct/Hero-Atari2600-v0", "Hero", "atari", num_envs=4)


def kangaroo() -> LoopRecipe:
    """Kangaroo: three floors and ladders."""
    return _small("RetroAct/Kangaroo-Atari2600-v0", "Kangaroo", "atari", num_envs=4)


def super_mario_bros() -> LoopRecipe:
    """Super Mario Bros. (paper): early obstacles."""
    return _published("SuperMarioBros", "Nes")


def adventure_island_ii() -> LoopRecipe:
    """Adventure Island II (paper): an easy start."""
    return _published("AdventureIslandII", "Nes")


def smurfs() -> LoopRecipe:
    """Smurfs (paper): rich backgrounds."""
    return _published("Smurfs", "Genesis")


LOOPS: tuple[Callable[[], LoopRecipe], ...] = (
    coinrun,
    hero,
    kangaroo,
    super_mario_bros,
    adventure_island_ii,
    smurfs,
)


def for_env(env: str) -> LoopRecipe:
    """Returns the recipe for a game; games without their own recipe use the small Atari recipe."""
    for recipe in LOOPS:
        if recipe().env == env:
            return recipe()
    name = env.rpartition("/")[2].rpartition("-v")[0]
    return _small(env, name, "atari", num_envs=4)


def _small(env: str, name: str, world: str, *, num_envs: int) -> LoopRecipe:
    agent: dict[str, Any] = {"env": env, "num_envs": num_envs}
    return LoopRecipe(
        env=env,
        name=name,
        training=WORLDS[world](),
        explorer=ExploreConfig(world=name, steps=150_000, eval_every=10_000, **agent),
        test_agent=ExploreConfig(reward="own", steps=500_000, eval_every=50_000, **agent),
    )


def _published(title: str, platform: str) -> LoopRecipe:
    """Returns a recipe with the paper's sizes.

    Each variant (explored and control) collects 10,000 episodes of 700 frames and fine-tunes the
    dynamics for 10,000 steps. The batch of 20 windows per process gives the paper's batch of 160
    windows on 8 GPUs.
    """
    env = f"RetroAct/{title}-{platform}-v0"
    agent: dict[str, Any] = {"env": env, "num_envs": 8, "max_steps": 700}
    training = WORLDS["paper"]()
    fit = replace(training.dynamics.fit, batch_size=20)
    return LoopRecipe(
        env=env,
        name=title,
        training=replace(training, dynamics=replace(training.dynamics, fit=fit)),
        explorer=ExploreConfig(
            world=title,
            reward="paper",
            steps=600_000,
            eval_every=10_000,
            learning_rate=1e-4,
            **agent,
        ),
        test_agent=ExploreConfig(reward="own", steps=10_000_000, eval_every=250_000, **agent),
        random_episodes=10_000,
        round_frames=7_000_000,
        test_episodes=1_000,
        max_steps=700,
        dynamics_steps=10_000,
        storage="bfloat16",
    )
