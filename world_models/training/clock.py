"""The clock of a training with a time limit."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """The time that a training has used, interruptions left out.

    Args:
        minutes: The time limit; None for none.
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
        """Share of the limit that is used, or that `seconds` are, at most 1; 0 without a limit."""
        used = self.seconds if seconds is None else seconds
        return 0.0 if self._limit is None else min(1.0, used / self._limit)
