"""The held-out seed and levels: no world model is trained on episodes from them."""

from __future__ import annotations

from typing import Any

from world_models.worlds.card import WorldCard

__all__ = ["SEED", "unseen_levels"]

SEED = 1_000_003
"""Seed of held-out collections; do not collect training data with it."""

_ALL_LEVELS = 2**31 - 1


def unseen_levels(card: WorldCard) -> dict[str, Any]:
    """Returns a card's env arguments, changed to levels that the world model was not trained on.

    A world model trained on levels S to S + N - 1 is tested on levels S + N and above. A world
    model trained on levels drawn from all 2^31 levels is tested on other draws.
    """
    kwargs = dict(card.env_kwargs)
    if num := int(kwargs.get("num_levels", 0)):
        first = int(kwargs.get("start_level", 0)) + num
        kwargs |= {"start_level": first, "num_levels": _ALL_LEVELS - first}
    return kwargs
