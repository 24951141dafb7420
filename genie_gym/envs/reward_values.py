"""Converts the reward that a world model expects to a reward that the game can give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["REWARD_MODES", "payable"]

REWARD_MODES = ("expected", "sampled", "rounded")


def payable(
    expected: NDArray[np.floating],
    values: Sequence[float],
    draws: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Returns, for each expected reward, a nearby reward that the game can give.

    Args:
        expected: Expected rewards.
        values: The rewards that the game gives, in ascending order; empty for all whole numbers.
        draws: Uniform random numbers in [0, 1), one per reward. If given, one of the two
            neighbouring values is sampled so that the mean of the sample is the expected reward;
            expected rewards outside the range of `values` are clipped to it. If None, the nearer of
            the two values is used.
    """
    rewards = np.asarray(expected, np.float64)
    if len(values) == 1:
        return np.full_like(rewards, values[0])
    if values:
        known = np.array(values, np.float64)
        upper = np.searchsorted(known, rewards).clip(1, len(known) - 1)
        low, high = known[upper - 1], known[upper]
    else:
        low = np.floor(rewards)
        high = low + 1
    share = (rewards - low) / (high - low)
    return np.where(share > (0.5 if draws is None else draws), high, low)
