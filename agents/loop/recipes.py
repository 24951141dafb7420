"""A recipe for each game: everything the loop does, at the size meant for it.

The paper's three games take the paper's numbers and want GPUs and the ROM; the others run on two
CPU cores in hours to days. Every field can be overridden on the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agents.explore_config import ExploreConfig
from agents.loop.judge import JudgeConfig
from world_models.training.recipes import RECIPES as WORLDS
from world_models.training.recipes import WorldRecipe

__all__ = ["LOOPS", "LoopRecipe", "for_env"]


@dataclass(frozen=True, kw_only=True)
class LoopRecipe:
    """One game's loop.

    Attributes:
        env: Env id of the real game.
        name: Of the worlds that come of it.
        training: How the first world is trained; its optimisation is also that of fine-tuning.
        explorer: The AutoExplore agent of a round; env, world, out and seed are filled in.
        tester: The agent on the game's own reward, which plays the held-out set; likewise.
        judging: How worlds are judged.
        undirected: How play at random goes: random (uniform, as the paper) or sticky.
        random_episodes: Episodes at random that the first world is trained on.
        round_frames: Frames that each arm collects in a round, in whole episodes.
        test_episodes: Of the held-out set.
        max_steps: Length of an episode at most.
        epsilon: Share of random actions mixed into agents' play.
        decoder_steps: Fine-tuning of the tokenizer's decoder in a round.
        dynamics_steps: Fine-tuning of the dynamics in a round.
        storage: How the matrices of worlds are stored.
        env_kwargs: Further arguments of the env.
    """

    env: str
    name: str
    training: WorldRecipe
    explorer: ExploreConfig
    tester: ExploreConfig
    judging: JudgeConfig = field(default_factory=JudgeConfig)
    undirected: Literal["random", "sticky"] = "random"
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
    """CoinRun, a hundred hard levels, in three hours."""
    base = _small("Procgen/CoinRun-v0", "CoinRun", "coinrun", num_envs=16)
    return replace(
        base,
        explorer=replace(base.explorer, steps=24_000, leg=12_000, eval_steps=64),
        tester=replace(base.tester, steps=100_000),
        judging=JudgeConfig(windows=96, prompt=4),
        random_episodes=220,
        round_frames=16_000,
        test_episodes=40,
        max_steps=256,
        decoder_steps=60,
        dynamics_steps=200,
        env_kwargs={"num_levels": "100", "start_level": "0"},
    )


def hero() -> LoopRecipe:
    """H.E.R.O., a shaft that has to be gone down."""
    return _small("RetroAct/Hero-Atari2600-v0", "Hero", "atari", num_envs=4)


def kangaroo() -> LoopRecipe:
    """Kangaroo, three floors and ladders."""
    return _small("RetroAct/Kangaroo-Atari2600-v0", "Kangaroo", "atari", num_envs=4)


def super_mario_bros() -> LoopRecipe:
    """The paper's: early obstacles."""
    return _published("SuperMarioBros", "Nes")


def adventure_island_ii() -> LoopRecipe:
    """The paper's: an easy start."""
    return _published("AdventureIslandII", "Nes")


def smurfs() -> LoopRecipe:
    """The paper's: rich backgrounds."""
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
    """The recipe of a game; one without its own takes Kangaroo's, which is a small one."""
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
        explorer=ExploreConfig(world=name, steps=150_000, leg=10_000, **agent),
        tester=ExploreConfig(reward="own", steps=500_000, leg=50_000, **agent),
    )


def _published(title: str, platform: str) -> LoopRecipe:
    """10,000 episodes of 700 frames an arm; 10,000 steps of 160 windows on 8 GPUs."""
    env = f"RetroAct/{title}-{platform}-v0"
    agent: dict[str, Any] = {"env": env, "num_envs": 8, "max_steps": 700}
    training = WORLDS["paper"]()
    fit = replace(training.dynamics.fit, batch_size=20)
    return LoopRecipe(
        env=env,
        name=title,
        training=replace(training, dynamics=replace(training.dynamics, fit=fit)),
        explorer=ExploreConfig(
            world=title, reward="paper", steps=600_000, leg=10_000, learning_rate=1e-4, **agent
        ),
        tester=ExploreConfig(reward="own", steps=10_000_000, leg=250_000, **agent),
        random_episodes=10_000,
        round_frames=7_000_000,
        test_episodes=1_000,
        max_steps=700,
        dynamics_steps=10_000,
        storage="bfloat16",
    )
