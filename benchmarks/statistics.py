"""Statistics of returns: over training seeds (with rliable), and for a dream's policy ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from world_models.extras import require

__all__ = ["better_than", "iqm", "mmrv", "pearson", "spearman", "value_gap"]

REPETITIONS = 2_000


def iqm(scores: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the interquartile mean of scores ``(runs, games)`` and its 95% bootstrap interval."""
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
    """Return the probability that one of our runs scores higher than one of their runs."""
    require("rliable", extra="bench", what="statistics over training seeds need rliable")
    from rliable import metrics

    return float(
        metrics.probability_of_improvement(np.array(ours)[:, None], np.array(theirs)[:, None])
    )


def pearson(dream: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """Return the correlation between dreamed and real returns, or 0 if either is constant."""
    if not (dream.std() and real.std()):
        return 0.0
    return float(np.corrcoef(dream, real)[0, 1])


def spearman(dream: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """Return the rank correlation between dreamed and real returns."""
    return pearson(_ranks(dream), _ranks(real))


def mmrv(dream: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """Return the mean maximum rank violation, as a fraction of the real returns' range.

    A policy's violation is the largest difference between its real return and the real return of
    a policy that the dream ranks on the wrong side of it (Li et al., 2024).
    """
    apart = real[:, None] - real
    wrong = (apart < 0) != (dream[:, None] - dream < 0)
    return float((np.abs(apart) * wrong).max(1).mean() / _range(real))


def value_gap(dream: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """Return the dreamed returns' mean absolute error, as a fraction of the real returns' range."""
    return float(np.abs(dream - real).mean() / _range(real))


def _range(real: NDArray[np.float64]) -> float:
    return max(float(real.max() - real.min()), 1e-9)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value; equal values share the mean of their ranks."""
    return (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) + 1) / 2


def _rng() -> np.random.RandomState:
    return np.random.RandomState(0)
