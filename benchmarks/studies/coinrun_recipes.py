"""How large the CoinRun study is: within two hours on two cores, or as published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agents.train import AgentConfig
from agents.train import coinrun as agent_recipe
from agents.train import coinrun_quick as quick_agent_recipe
from benchmarks.dreams.measure import Amounts
from world_models import presets
from world_models.evaluation.dreamer import Mode
from world_models.training.config import FitConfig
from world_models.training.recipes import RECIPES as WORLD_RECIPES
from world_models.training.recipes import WorldRecipe

__all__ = ["RECIPES", "StudyRecipe", "scaled"]


@dataclass(frozen=True, kw_only=True)
class StudyRecipe:
    """How large the study is.

    Attributes:
        agent: How the agent is trained.
        world: How the base models are trained.
        tuning: Share of the base models' steps that tuning takes.
        random_episodes: Episodes of random play to train on.
        agent_episodes: Episodes of the agent's play to tune on.
        test_episodes: Episodes of each test set.
        max_steps: Length of an episode at most.
        amounts: What is measured of each world.
        mode: How frames are generated for it.
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
    """Within two hours on two cores: shows the order of things, not their size."""
    return StudyRecipe(
        agent=replace(quick_agent_recipe(), steps=500_000),
        world=scaled(WORLD_RECIPES["coinrun-tiny"](), 3),
    )


def paper() -> StudyRecipe:
    """As published, for 8 GPUs and weeks."""
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
    """The same models, trained for another number of steps."""

    def fit(recipe: FitConfig) -> FitConfig:
        return replace(recipe, steps=max(1, round(share * recipe.steps)))

    tokenizer, latent, dynamics = world.tokenizer, world.latent_action, world.dynamics
    return WorldRecipe(
        tokenizer=replace(tokenizer, fit=fit(tokenizer.fit)),
        latent_action=replace(latent, fit=fit(latent.fit)),
        dynamics=replace(dynamics, fit=fit(dynamics.fit)),
    )


RECIPES: dict[str, Callable[[], StudyRecipe]] = {"tiny": tiny, "paper": paper}
