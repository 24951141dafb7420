"""Held-out episodes: real episodes that a world model was not trained on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs

from genie_gym.collect.command import CollectConfig, collect
from genie_gym.collect.policy_spec import checked_spec, shares_of
from genie_gym.evaluation.unseen import unseen_levels
from world_models.episodes import EpisodeDataset
from world_models.worlds.card import WorldCard

__all__ = ["collected", "described", "stored"]


def collected(
    card: WorldCard,
    *,
    episodes: int,
    max_steps: int,
    seed: int,
    policy: str = "sticky",
    cache: Path | None = None,
) -> EpisodeDataset:
    """Collect held-out episodes of a world model's real env, or load them from the cache.

    Args:
        card: Card of the world model.
        episodes: Number of episodes.
        max_steps: Maximum length of an episode.
        seed: Seed of the collection.
        policy: Policy that collects the episodes, as in `genie-gym collect`.
        cache: Folder for the collected episodes; by default in the user's cache directory.

    Raises:
        ValueError: If the world model was trained on episodes collected with this seed.
    """
    if seed in _data(card).get("seeds", ()):
        raise ValueError(
            f"the world model {card.name} was trained on episodes with seed {seed}: "
            "use another --play-seed"
        )
    kwargs, policy = unseen_levels(card), checked_spec(policy)
    settings = [card.env_id, kwargs, max_steps, seed, policy, *_agents_of(policy)]
    identity = json.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    cache = cache or Path(platformdirs.user_cache_dir("genie-gym")) / "held-out"
    config = CollectConfig(
        env=card.env_id,
        out=cache / f"{card.env_id.replace('/', '-')}-{digest}",
        policy=policy,
        episodes=episodes,
        max_steps=max_steps,
        seed=seed,
        env_kwargs={name: str(value) for name, value in kwargs.items()},
    )
    if collect(config):
        raise KeyboardInterrupt
    asked = EpisodeDataset(config.out).select(where=lambda info: (info.index or 0) < episodes)
    return _checked(card, asked)


def _agents_of(policy: str) -> list[str]:
    """Return a checksum of each saved agent that a policy uses, because agents may change."""
    folders = map(Path, shares_of(policy))
    return [
        hashlib.sha256(b"".join(map(Path.read_bytes, sorted(folder.glob("policy.*"))))).hexdigest()
        for folder in folders
        if folder.is_dir()
    ]


def stored(card: WorldCard, data: Path, split: Literal["test", "all"]) -> EpisodeDataset:
    """Load the episodes of a world model's real env from a dataset.

    Args:
        card: Card of the world model.
        data: The dataset's directory.
        split: "test" for the part that training never reads, chosen by a hash of each episode;
            "all" for a dataset that was collected for testing.
    """
    dataset = EpisodeDataset(data)
    chosen = dataset.select(env_id=card.env_id)
    if split == "test":
        chosen = chosen.split("test")
    if not len(chosen):
        raise ValueError(
            f"{data} has {len(dataset)} episodes, but none from {card.env_id} in the split "
            f"{split!r} ('test' has about one in a hundred): if the world model was not trained on "
            "this dataset, use --split all"
        )
    return _checked(card, chosen)


def described(card: WorldCard, episodes: EpisodeDataset) -> str:
    """Describe the episodes in one sentence."""
    policies = ", ".join(sorted({entry.info.policy for entry in episodes.entries}))
    levels = unseen_levels(card) if card.env_kwargs else {}
    return (
        f"{len(episodes)} episodes of {card.env_id}, {int(np.sum(episodes.num_frames)):,} frames, "
        f"policy {policies}" + (f", {levels}" if levels else "")
    )


def _data(card: WorldCard) -> dict[str, Any]:
    data = card.provenance.get("data", {})
    return data if isinstance(data, dict) else {}


def _checked(card: WorldCard, episodes: EpisodeDataset) -> EpisodeDataset:
    if card.latent_action is None and episodes.action_meanings != card.action_meanings:
        raise ValueError(
            f"{episodes.path} has the actions {', '.join(episodes.action_meanings)}, but the world "
            f"{card.name} needs {', '.join(card.action_meanings)}: collect episodes with "
            f"action_set={card.action_set}"
        )
    size = card.frame_size
    if episodes.frame_shape != (size, size, 3):
        raise ValueError(
            f"{episodes.path} has frames of shape {episodes.frame_shape}, but {card.name} expects "
            f"{(size, size, 3)}: collect episodes with frames of that size"
        )
    return episodes
