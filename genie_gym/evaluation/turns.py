"""Scripted policies whose return a dream may overestimate: one action, or two alternating ones."""

from __future__ import annotations

from itertools import combinations

__all__ = ["MOST_PAIRS", "turns"]

MOST_PAIRS = 36  # the number of pairs of nine actions


def turns(num_actions: int) -> list[tuple[int, ...]]:
    """Returns the actions that each policy takes in turn: one action, or two alternating ones.

    If there are more than `MOST_PAIRS` pairs, `MOST_PAIRS` evenly spread pairs are chosen.
    """
    singles: list[tuple[int, ...]] = [(action,) for action in range(num_actions)]
    pairs = list(combinations(range(num_actions), 2))
    few = min(len(pairs), MOST_PAIRS)
    return singles + [pairs[len(pairs) * i // few] for i in range(few)]
