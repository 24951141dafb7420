"""Recipes for world models: `from_play` for any game, and a function for each shipped world.

``genie-gym build ENV`` runs `from_play`; ``genie-gym worlds make NAME`` runs one of the other
recipes.

The world models in the package were made while these recipes were developed. The two-stream ones
were trained with gradients through all layers of the past frames; the recipes omit the gradients in
the first half of the layers, to save time. For Crazy Climber and Frostbite, the share of dreamed
frames per episode was drawn uniformly, not as `world_models.training.corruption` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from genie_gym.build.build import ROUND_SHARES, SHARES, Build
from genie_gym.collect.policy_spec import MIXED, half_by
from world_models.training.package import SamplingOptions
from world_models.training.recipes import RECIPES, DynamicsRecipe, WorldRecipe

__all__ = ["WORLDS", "from_play"]

# At the usual temperature of 0.2, the climber in Crazy Climber never came back once it had
# disappeared: its return in any single frame is unlikely, so it was never sampled.
ONE_PASS = SamplingOptions(steps=1, temperature=0.5)
# In other games, temperature 0.5 shows small sprites twice.
COOLER = SamplingOptions(steps=1, temperature=0.2)
# Round R of a build with seed S collects episodes with seed ROUND_SEED + S + R, so they differ from
# the episodes of the first collection and from the episodes that worlds are scored on.
ROUND_SEED = 2_000_000
CALIBRATION_SEED = 3_000_001
# Share of dreamed frames for `_calibrated`: up to 100 dreamed frames follow each other on average.
LONG_DREAMS = 0.99


def from_play(
    build: Build,
    recipe: WorldRecipe,
    *,
    policy: str = MIXED,
    episodes: int = 160,
    steps: int = 6000,
    events: float = 0.1,
    max_steps: int = 500,
    seed: int = 0,
    rounds: int = 0,
    sampling: SamplingOptions = ONE_PASS,
    pictures: Path | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Path:
    """Collects episodes, and trains a world model on them that predicts each frame in one pass.

    Args:
        build: The build. Its `sizes` may change the numbers of episodes and steps.
        recipe: The models and their training settings.
        policy: Policy that plays the game.
        episodes: Number of episodes to collect.
        steps: Training steps of the dynamics model.
        events: See `DynamicsRecipe`.
        max_steps: Maximum steps per episode.
        seed: Seed of the collection.
        rounds: Number of rounds. Each round trains an agent in the dream, collects the agent's
            episodes in the real game, and fine-tunes the world on them.
        sampling: How the world samples frames.
        pictures: Folder for a film strip and other images of the finished world model; None draws
            none.
        env_kwargs: Keyword arguments of the env.

    Returns:
        The folder of the world.
    """
    play: dict[str, Any] = {"seed": seed, "max_steps": max_steps, "env_kwargs": env_kwargs}
    data = build.collect("mixed", policy, episodes, **play)
    tokenizer = build.tokenizer(recipe.tokenizer, data)
    model = replace(recipe.dynamics.model, objective="one_pass")
    dynamics = replace(recipe.dynamics, model=model, events=events)
    # In the same time, twice as many steps with half the batch size train a better model.
    dynamics = _fitted(dynamics, steps=steps, batch_size=4, learning_rate=2e-3, save_every=500)
    run = build.dynamics("dynamics", dynamics, data, tokenizer=tokenizer)
    world = _finish(build, data, tokenizer, run, sampling, pictures)
    tuned = _fitted(dynamics, steps=steps // 3, learning_rate=7e-4)
    for number in range(1, rounds + 1):
        world = _round(build, number, world, data, tuned, policy, sampling, pictures, **play)
    return world


def coinrun(build: Build) -> Path:
    """Makes a world model of hard CoinRun levels with backgrounds.

    It takes an hour and a half on two cores.
    """
    levels: dict[str, Any] = {"start_level": 100000, "num_levels": 100000, "velocity_map": True}
    recipe = RECIPES["coinrun"]()
    data = build.collect("sticky", "sticky", 1000, max_steps=256, env_kwargs=levels)
    tokenizer = build.tokenizer(recipe.tokenizer, data)
    # Training on pairs of frames first teaches the model what a single frame shows, such as the
    # shades of the velocity map.
    pairs = _fitted(
        replace(recipe.dynamics, frames=2),
        steps=500,
        batch_size=64,
        learning_rate=3e-3,
        ema_decay=0.95,
    )
    pairs = replace(pairs, loss=replace(pairs.loss, mask_steps=1, context_noise=0.0))
    run = build.dynamics("pairs", pairs, data, tokenizer=tokenizer)
    world = build.bundle("CoinRunPairs", data, tokenizer, run)
    longer = _fitted(replace(recipe.dynamics, events=0.1), steps=3000, learning_rate=2e-3)
    run = build.dynamics("dynamics", longer, data, world=world)
    world = build.bundle("CoinRunLonger", data, world, run)
    more = build.collect("more", "sticky", 300, max_steps=256, seed=1, env_kwargs=levels)
    own = _fitted(replace(recipe.dynamics, self_forcing=0.5), steps=800, learning_rate=1e-3)
    run = build.dynamics("self-forcing", own, more, world=world)
    world = build.bundle("CoinRunSelfForcing", more, world, run)
    outcome = _fitted(replace(recipe.dynamics, events=0.3), steps=250)
    run = build.dynamics("outcome", outcome, data, world=world, outcome_only=True)
    world = build.bundle("CoinRun", data, world, run, storage="int8")
    policy = f"{MIXED},agents.experts:coinrun=10"
    play: dict[str, Any] = {"max_steps": 200, "env_kwargs": levels}
    return _calibrated(build, world, policy, 240, recipe.dynamics, SamplingOptions(), **play)


def crazy_climber(build: Build) -> Path:
    """Makes a world model of Crazy Climber, in four hours on one core.

    The data is sticky, random and mixed play, and episodes of agents trained in the dream.
    """
    recipe = RECIPES["atari"]()
    dynamics = replace(recipe.dynamics, events=0.1)
    sticky = build.collect("sticky", "sticky", 160)
    tokenizer = build.tokenizer(recipe.tokenizer, sticky)
    both = build.merge("both", sticky, build.collect("random", "random", 80, seed=5))
    first = _fitted(dynamics, steps=4000, batch_size=8)
    run = build.dynamics("dynamics", first, both, tokenizer=tokenizer)
    world = build.bundle("CrazyClimberFirst", both, tokenizer, run, sampling=ONE_PASS)
    # Adds held and alternating actions. Without this data, the dream rewards behaviour that gets no
    # reward in the real game.
    every = build.merge("every", both, build.collect("mixed", MIXED, 160, seed=10))
    tuned = _fitted(dynamics, steps=1000, batch_size=8, learning_rate=7e-4)
    world = _finish(build, every, world, build.dynamics("more", tuned, every, world=world))
    # Adds episodes of an agent trained in this dream, because other policies seldom climb far.
    world = _round(build, 1, world, every, tuned, MIXED)
    agent = build.agent("calibration", world, every)
    return _calibrated(build, world, half_by(agent, MIXED), 80, dynamics)


def freeway(build: Build) -> Path:
    """Makes a world model of Freeway, in an hour and a half on one core.

    The data is mixed play, and episodes of a scripted player that walks up, because other policies
    hardly ever cross the road.
    """
    recipe, policy = _atari_2048(), f"{MIXED},agents.experts:freeway=10"
    world = from_play(
        build, recipe, policy=policy, episodes=200, steps=6000, events=0.3, sampling=COOLER
    )
    world = _self_forced(build, world, recipe, COOLER)
    # The outcome head expects a small part of a point at each step of walking up. Not rounded,
    # these parts add up to a reward for moving up and down on one spot.
    return _calibrated(
        build, world, policy, 100, recipe.dynamics, COOLER, bundle={"rounded_rewards": True}
    )


def frostbite(build: Build) -> Path:
    """Makes a world model of Frostbite, in an hour and a half on one core.

    The data is mixed play, and episodes of an agent that was trained in the dream.
    """
    recipe = _atari_2048()
    world = from_play(build, recipe, steps=5000, events=0.3)
    return _round(build, 1, world, build.out / "data" / "mixed", _own_dreams(recipe), MIXED)


def hero(build: Build) -> Path:
    """Makes a world model of H.E.R.O. from sticky play, in an hour on one core."""
    recipe = RECIPES["atari"]()
    model = replace(recipe.dynamics.model, objective="two_stream")
    dynamics = replace(recipe.dynamics, model=model)
    dynamics = _fitted(dynamics, steps=1800, learning_rate=1.5e-3, save_every=200)
    data = build.collect("sticky", "sticky", 60)
    tokenizer = build.tokenizer(recipe.tokenizer, data)
    run = build.dynamics("dynamics", dynamics, data, tokenizer=tokenizer)
    world = build.bundle("HeroFirst", data, tokenizer, run)
    for name, steps in (("more", 1000), ("last", 500)):
        tuned = _fitted(dynamics, steps=steps, learning_rate=7e-4)
        run = build.dynamics(name, tuned, data, world=world)
        world = build.bundle(f"Hero{name.title()}", data, world, run)
    outcome = _fitted(replace(dynamics, events=0.1), steps=300)
    outcome = replace(outcome, loss=replace(outcome.loss, event_weight=1.0))
    run = build.dynamics("outcome", outcome, data, world=world, outcome_only=True)
    return build.score(build.bundle("Hero", data, world, run, storage="int8"))


def pong(build: Build) -> Path:
    """Makes a world model of Pong, in an hour and a half on one core.

    The data is mixed play, and episodes of a scripted player that hits the ball, because other
    policies hit the ball too rarely for a world to learn what follows. Frames are sampled in
    several passes: the paddle moves so far in a step that one pass often draws it twice or not at
    all. At temperature 0.2, the paddle rarely came back once it had left the frame.
    """
    recipe, policy = _atari_2048(), f"{MIXED},agents.experts:pong=10"
    data = build.collect("mixed", policy, 200)
    tokenizer = build.tokenizer(recipe.tokenizer, data)
    model = replace(recipe.dynamics.model, objective="two_stream")
    dynamics = _fitted(replace(recipe.dynamics, model=model, events=0.1), steps=4000)
    run = build.dynamics("dynamics", dynamics, data, tokenizer=tokenizer)
    return _finish(build, data, tokenizer, run, SamplingOptions(steps=4, temperature=0.5))


WORLDS: dict[str, tuple[str, Callable[[Build], Path]]] = {
    "CoinRun": ("Procgen/CoinRun-v0", coinrun),
    "CrazyClimber": ("RetroAct/CrazyClimber-Atari2600-v0", crazy_climber),
    "Freeway": ("RetroAct/Freeway-Atari2600-v0", freeway),
    "Frostbite": ("RetroAct/Frostbite-Atari2600-v0", frostbite),
    "Hero": ("RetroAct/Hero-Atari2600-v0", hero),
    "Pong": ("RetroAct/Pong-Atari2600-v0", pong),
}
"""Maps the name of each world model to its env id and its recipe."""


def _atari_2048() -> WorldRecipe:
    """Returns `atari` with twice as many codes, for games with many small sprites."""
    recipe = RECIPES["atari"]()
    codebook = replace(recipe.tokenizer.model, num_codes=2048)
    return replace(recipe, tokenizer=replace(recipe.tokenizer, model=codebook))


def _own_dreams(recipe: WorldRecipe) -> DynamicsRecipe:
    """Returns settings for fine-tuning a one-pass world with self-forcing.

    Dreamed frames in the data teach the model to bring back sprites that have disappeared.
    """
    model = replace(recipe.dynamics.model, objective="one_pass")
    own = replace(recipe.dynamics, model=model, events=0.3, self_forcing=0.6)
    return _fitted(own, steps=2000, batch_size=4, learning_rate=1e-3)


def _self_forced(build: Build, world: Path, recipe: WorldRecipe, sampling: SamplingOptions) -> Path:
    """Fine-tunes a world of `from_play` on its own dreams."""
    data = build.out / "data" / "mixed"
    run = build.dynamics("self-forcing", _own_dreams(recipe), data, world=world)
    return _finish(build, data, world, run, sampling, name=f"self-forced/{build.name}")


def _round(
    build: Build,
    number: int,
    world: Path,
    data: Path,
    recipe: DynamicsRecipe,
    policy: str,
    sampling: SamplingOptions = ONE_PASS,
    pictures: Path | None = None,
    *,
    seed: int = 0,
    **play: Any,
) -> Path:
    """Trains an agent in a world, adds its real episodes to the data, and fine-tunes the world.

    The tokenizer does not change, so only the new episodes have to be encoded. `recipe` has the
    settings of the fine-tuning. `seed` is the seed of the first collection; `play` holds further
    arguments of `Build.collect`.
    """
    name = f"round-{number}"
    agent = build.agent(name, world, data)
    both = half_by(agent, policy)
    play["seed"] = ROUND_SEED + seed + number
    build.collect(name, both, 60, into=data, share=ROUND_SHARES["collect"], **play)
    share = ROUND_SHARES["dynamics"]
    run = build.dynamics(f"dynamics-{name}", recipe, data, world=world, share=share)
    return _finish(build, data, world, run, sampling, pictures, name=f"{name}/{build.name}")


def _calibrated(
    build: Build,
    world: Path,
    policy: str,
    episodes: int,
    recipe: DynamicsRecipe,
    sampling: SamplingOptions = ONE_PASS,
    *,
    bundle: Mapping[str, Any] | None = None,
    **play: Any,
) -> Path:
    """Fine-tunes the outcome head on dreams in which rewards are as rare as in the real game.

    The other stages oversample rewards and give them a larger loss weight. As a result, the model
    predicts too much reward if the frame does not show whether there is a reward. The dreams follow
    the actions of new real episodes, which `policy` plays. `bundle` holds further fields of
    `BundleOptions`, and `play` further arguments of `Build.collect`.
    """
    play |= {"seed": CALIBRATION_SEED, "share": ROUND_SHARES["collect"]}
    data = build.collect("calibration", policy, episodes, **play)
    loss = replace(recipe.loss, event_weight=1.0)
    tuned = replace(recipe, loss=loss, events=0.0, self_forcing=LONG_DREAMS)
    tuned = _fitted(tuned, steps=500, batch_size=8, learning_rate=1e-3)
    share = ROUND_SHARES["dynamics"]
    run = build.dynamics("calibration", tuned, data, world=world, outcome_only=True, share=share)
    name = f"calibrated/{build.name}"
    return _finish(build, data, world, run, sampling, name=name, **(bundle or {}))


def _finish(
    build: Build,
    data: Path,
    tokenizer: Path,
    dynamics: Path,
    sampling: SamplingOptions = ONE_PASS,
    pictures: Path | None = None,
    name: str | None = None,
    **options: Any,
) -> Path:
    """Writes the bundle of a world model and scores it; returns the bundle's folder.

    `options` are further fields of `BundleOptions`.
    """
    options = {"storage": "int8", "sampling": sampling, **options}
    world = build.bundle(name or build.name, data, tokenizer, dynamics, **options)
    shown = () if pictures is None else ("--pictures", str(pictures))
    share = SHARES["score"] if name is None else ROUND_SHARES["score"]
    return build.score(world, *shown, share=share)


def _fitted(recipe: DynamicsRecipe, **fit: Any) -> DynamicsRecipe:
    return replace(recipe, fit=replace(recipe.fit, **fit))
