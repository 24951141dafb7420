"""The frame to come, while it is being sampled: what the dynamics says of it, given the past.

Shapes: B batch, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from world_models.cache import StreamCache
from world_models.dynamics import Dynamics
from world_models.sampling import Draft, SamplingConfig, reveal

__all__ = ["NextFrame", "next_frame"]


class NextFrame(Protocol):
    """The next frame of B rows, whose past and action are known."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits ``(B, N, K)`` of the frame, given those of its ``(B, N)`` tokens not hidden."""

    def reveal(
        self, draft: Draft, rows: Tensor, schedule: Tensor, drawn: Tensor, config: SamplingConfig
    ) -> tuple[Tensor, Draft]:
        """A pass of sampling, see `world_models.sampling.Pass`."""

    def commit(self, tokens: Tensor) -> tuple[StreamCache, Tensor, Tensor]:
        """Make the frame part of the past; return that, its reward and its termination ``(B,)``."""


class _TwoStreamFrame:
    """Each pass sees the tokens known so far; the finished frame passes once more, as the past."""

    def __init__(
        self, dynamics: Dynamics, cache: StreamCache, action: Tensor, before: Tensor | None
    ):
        self.dynamics, self.cache = dynamics, cache
        plan, table = dynamics.transformer.plan(cache), dynamics.token_table()
        self.given = action, plan, table, dynamics.see(before)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.dynamics.step(tokens, *self.given)[0]

    def reveal(
        self, draft: Draft, rows: Tensor, schedule: Tensor, drawn: Tensor, config: SamplingConfig
    ) -> tuple[Tensor, Draft]:
        action, plan, table, seen = self.given
        if len(rows) < len(action):
            action, plan = action[rows], plan.rows(rows)
            seen = None if seen is None else seen[rows]
        return self.dynamics.reveal(draft, schedule, drawn, config, action, plan, table, seen)

    def commit(self, tokens: Tensor) -> tuple[StreamCache, Tensor, Tensor]:
        trace, reward, termination = self.dynamics.remember(tokens, *self.given)
        return self.cache.write(trace), reward, termination


class _ShiftedFrame:
    """The frame *before*, with the action taken there, says it all in one pass."""

    def __init__(self, dynamics: Dynamics, cache: StreamCache, before: Tensor, action: Tensor):
        self.known, traces = dynamics.step(before, action, dynamics.transformer.plan(cache))
        trace, self.reward, self.termination = dynamics.finish(traces)
        self.cache = cache.write(trace)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.known

    def reveal(
        self, draft: Draft, rows: Tensor, schedule: Tensor, drawn: Tensor, config: SamplingConfig
    ) -> tuple[Tensor, Draft]:
        logits = self.known[rows]
        return logits, reveal(draft, logits, schedule, drawn, config)

    def commit(self, tokens: Tensor) -> tuple[StreamCache, Tensor, Tensor]:
        return self.cache, self.reward, self.termination


def next_frame(
    dynamics: Dynamics,
    cache: StreamCache,
    before: Tensor,
    action: Tensor,
    frames: Tensor | None = None,
) -> NextFrame:
    """Look one frame ahead.

    Args:
        dynamics: Trained with either objective.
        cache: Its past; written in place.
        before: Tokens of the last frame ``(B, N)``.
        action: Leads from there to the next frame, ``(B,)``; NO_ACTION to the very first.
        frames: The last frame, uint8 ``(B, H, W, C)``, for ``frame_patch``.
    """
    if dynamics.config.objective == "two_stream":
        return _TwoStreamFrame(dynamics, cache, action, frames)
    return _ShiftedFrame(dynamics, cache, before, action)
