"""Computes statistics of a dataset's features, for each episode and for the whole dataset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Statistics", "pooled_statistics", "statistics_of"]

Statistics = dict[str, NDArray[np.float64]]
"""A feature's ``min``, ``max``, ``mean`` and ``std``, and the ``count`` of frames behind them."""


def statistics_of(values: NDArray[np.float64], count: int) -> Statistics:
    """Returns the smallest and largest value, mean and standard deviation over the first axis.

    Args:
        values: Values of F features, ``(N, F)``.
        count: The number to report as the statistics' count. It is smaller than N if each frame
            contributes several values, such as pixels.
    """
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([count]),
    }


def pooled_statistics(parts: list[dict[str, Statistics]]) -> dict[str, Statistics]:
    """Combines the statistics of individual episodes into statistics of all episodes."""
    pooled = {}
    for feature in parts[0]:
        columns = {
            name: np.stack([part[feature][name] for part in parts]) for name in parts[0][feature]
        }
        counts = columns["count"].reshape(-1, *[1] * (columns["mean"].ndim - 1))
        share = counts / counts.sum()
        mean = (share * columns["mean"]).sum(0)
        variance = (share * (columns["std"] ** 2 + (columns["mean"] - mean) ** 2)).sum(0)
        pooled[feature] = {
            "min": columns["min"].min(0),
            "max": columns["max"].max(0),
            "mean": mean,
            "std": np.sqrt(variance),
            "count": columns["count"].sum(0),
        }
    return pooled
