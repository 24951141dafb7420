"""Scripted play that a dream may overpay: one action repeated, or two in alternation."""

from __future__ import annotations

from itertools import combinations

__all__ = ["MOST_PAIRS", "turns"]

MOST_PAIRS = 36  # as many as nine actions have


def turns(num_actions: int) -> list[tuple[int, ...]]:
    """Returns the actions that each policy takes in turn: single actions, then pairs.

    There are at most `MOST_PAIRS` pairs: of more, evenly spread ones are chosen.
    """
    singles: list[tuple[int, ...]] = [(action,) for action in range(num_actions)]
    pairs = list(combinations(range(num_actions), 2))
    few = min(len(pairs), MOST_PAIRS)
    return singles + [pairs[len(pairs) * i // few] for i in range(few)]
