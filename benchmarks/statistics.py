"""Statistics over training seeds, by rliable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from world_models.extras import require

__all__ = ["better_than", "iqm"]

REPETITIONS = 2_000


def iqm(scores: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the interquartile mean of ``(runs, games)`` and its 95 % bootstrap interval."""
    require("rliable", extra="bench", what="statistics over training seeds need rliable")
    from rliable import library, metrics

    def mean(given: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([metrics.aggregate_iqm(given)])

    points, intervals = library.get_interval_estimates(
        {"it": np.atleast_2d(scores)}, mean, reps=REPETITIONS, random_state=_rng()
    )
    low, high = intervals["it"][:, 0]
    return float(points["it"][0]), float(low), float(high)


def better_than(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the probability that a run of ours has a higher score than one of theirs."""
    require("rliable", extra="bench", what="statistics over training seeds need rliable")
    from rliable import metrics

    return float(
        metrics.probability_of_improvement(np.array(ours)[:, None], np.array(theirs)[:, None])
    )


def _rng() -> np.random.RandomState:
    return np.random.RandomState(0)
