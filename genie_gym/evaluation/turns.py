"""Scripted policies that a dream may reward too much: one action repeated, or two alternating."""

from __future__ import annotations

from itertools import combinations

__all__ = ["MOST_PAIRS", "turns"]

MOST_PAIRS = 36  # the number of pairs of nine actions


def turns(num_actions: int) -> list[tuple[int, ...]]:
    """Returns the actions that each policy takes in turn: single actions, then pairs.

    If there are more than `MOST_PAIRS` pairs, evenly spread ones are chosen.
    """
    singles: list[tuple[int, ...]] = [(action,) for action in range(num_actions)]
    pairs = list(combinations(range(num_actions), 2))
    few = min(len(pairs), MOST_PAIRS)
    return singles + [pairs[len(pairs) * i // few] for i in range(few)]
