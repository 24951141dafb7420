"""Registers the env ids of this package with Gymnasium."""

from __future__ import annotations

import re
from typing import Any

from gymnasium.envs.registration import EnvSpec, registry

from genie_gym.retroact import catalogue
from world_models.worlds.find import list_worlds

__all__ = ["LOOKS", "register_dream", "register_envs"]

LOOKS = {"velocity_map": False, "paint_over": False, "use_backgrounds": True, "frame_size": 64}
"""Arguments of real envs that change how frames look, with their defaults. A world model works only
on frames that look like its training data."""

# Five minutes at 15 steps per second; `gym.make(id, max_episode_steps=...)` overrides it.
RETRO_MAX_EPISODE_STEPS = 4500
# The length of the episodes that world models learn from; `max_episode_steps=-1` means no limit.
DREAM_MAX_EPISODE_STEPS = 500


def register_envs() -> None:
    """Registers the envs for all real games and world models; can be called more than once."""
    _register("Procgen/CoinRun-v0", "genie_gym.envs.coinrun:CoinRun", {})
    for game in catalogue.games():
        _register(
            game.env_id,
            "genie_gym.envs.retro:Retro",
            {"game": game.name},
            max_episode_steps=RETRO_MAX_EPISODE_STEPS,
        )
    for world in ("CoinRun", "CoinRunOfficial", *catalogue.dreamed(), *list_worlds()):
        register_dream(world)


def register_dream(world: str) -> None:
    """Registers the env for the world model with this name."""
    if not re.fullmatch(r"[\w.-]+", world):
        return  # not a valid env id; the world model can be opened by its path
    _register(
        f"GenieRedux/{world}-v0",
        "genie_gym.envs.genie:Genie",
        {"world": world},
        max_episode_steps=DREAM_MAX_EPISODE_STEPS,
    )


def _register(
    env_id: str, entry: str, kwargs: dict[str, Any], *, max_episode_steps: int | None = None
) -> None:
    # `gymnasium.register` searches the whole registry for each id: 1,000 ids take a second.
    registry[env_id] = EnvSpec(
        id=env_id,
        entry_point=f"{entry}Env",
        vector_entry_point=f"{entry}VectorEnv",
        kwargs=kwargs,
        max_episode_steps=max_episode_steps,
    )
