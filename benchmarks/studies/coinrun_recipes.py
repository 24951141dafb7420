"""Recipes for the CoinRun study: one for an hour on two cores, and the published one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agents.train import AgentConfig
from agents.train import coinrun as agent_recipe
from agents.train import coinrun_quick as quick_agent_recipe
from benchmarks.dreams.measure import Amounts
from genie_gym.evaluation.dreamer import Mode
from world_models import presets
from world_models.training.config import FitConfig
from world_models.training.recipes import RECIPES as WORLD_RECIPES
from world_models.training.recipes import WorldRecipe

__all__ = ["RECIPES", "StudyRecipe", "scaled"]


@dataclass(frozen=True, kw_only=True)
class StudyRecipe:
    """Training settings and data sizes of the study.

    Attributes:
        agent: Training settings of the agent.
        world: Recipe for the base models.
        tuning: Fine-tuning steps as a fraction of the base models' steps.
        random_episodes: Episodes of random play for training.
        agent_episodes: Episodes played by the agent for fine-tuning.
        test_episodes: Episodes in each test set.
        max_steps: Maximum length of an episode.
        amounts: Number of windows and frames to measure for each world model.
        mode: Mode in which frames are generated.
    """

    agent: AgentConfig
    world: WorldRecipe
    tuning: float = 0.3
    random_episodes: int = 300
    agent_episodes: int = 150
    test_episodes: int = 40
    max_steps: int = 200
    amounts: Amounts = Amounts(long_frames=0)
    mode: Mode = "one_go"


def tiny() -> StudyRecipe:
    """Return a study that takes an hour; its models do not reach the published values."""
    return StudyRecipe(
        agent=replace(quick_agent_recipe(), steps=500_000),
        world=scaled(WORLD_RECIPES["coinrun-tiny"](), 1.5),
    )


def paper() -> StudyRecipe:
    """Return the published study; it takes weeks on 8 GPUs."""
    world = WORLD_RECIPES["paper"]()
    tokenizer, latent, dynamics = world.tokenizer, world.latent_action, world.dynamics
    return StudyRecipe(
        agent=agent_recipe(),
        world=WorldRecipe(
            tokenizer=replace(tokenizer, fit=replace(tokenizer.fit, steps=100_000, batch_size=11)),
            latent_action=latent,
            dynamics=replace(
                dynamics,
                model=presets.paper(num_actions=7).dynamics,
                fit=replace(dynamics.fit, steps=150_000, batch_size=11),
            ),
        ),
        tuning=1.0,
        random_episodes=88_000,
        agent_episodes=10_000,
        test_episodes=1_000,
        max_steps=500,
        amounts=Amounts(windows=4_096, long_frames=0),
    )


def scaled(world: WorldRecipe, share: float) -> WorldRecipe:
    """Return the recipe with all training steps scaled by `share`."""

    def fit(recipe: FitConfig) -> FitConfig:
        return replace(recipe, steps=max(1, round(share * recipe.steps)))

    tokenizer, latent, dynamics = world.tokenizer, world.latent_action, world.dynamics
    return WorldRecipe(
        tokenizer=replace(tokenizer, fit=fit(tokenizer.fit)),
        latent_action=replace(latent, fit=fit(latent.fit)),
        dynamics=replace(dynamics, fit=fit(dynamics.fit)),
    )


RECIPES: dict[str, Callable[[], StudyRecipe]] = {"tiny": tiny, "paper": paper}
