"""The clock of a training run with a time limit."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Measures the time that a training run has used, without interruptions.

    Args:
        minutes: The time limit; None for no limit.
        used: Seconds used before the training was interrupted.
    """

    def __init__(self, minutes: float | None, used: float = 0.0):
        self._limit = None if minutes is None else 60 * minutes
        self._begun = time.perf_counter() - used

    @property
    def seconds(self) -> float:
        """Seconds used so far."""
        return time.perf_counter() - self._begun

    def share(self, seconds: float | None = None) -> float:
        """Fraction of the limit used after `seconds` (default: now), at most 1; 0 if no limit."""
        used = self.seconds if seconds is None else seconds
        return 0.0 if self._limit is None else min(1.0, used / self._limit)
