"""The clock for a training run with a time limit."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Measures the time that a training run has used, not counting interruptions.

    Args:
        minutes: The time limit in minutes; None for no limit.
        used: Seconds that the run had used before it was interrupted.
    """

    def __init__(self, minutes: float | None, used: float = 0.0):
        self._limit = None if minutes is None else 60 * minutes
        self._begun = time.perf_counter() - used

    @property
    def seconds(self) -> float:
        """Number of seconds used so far."""
        return time.perf_counter() - self._begun

    def share(self, seconds: float | None = None) -> float:
        """Return the fraction of the time limit that is used after `seconds`, at most 1.

        By default, `seconds` is the time used so far. Without a limit, the result is 0.
        """
        used = self.seconds if seconds is None else seconds
        return 0.0 if self._limit is None else min(1.0, used / self._limit)
