"""The frame to come, while it is being sampled: what the dynamics says of it, given the past.

Shapes: B batch, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from world_models.blocks import LayerTrace
from world_models.cache import StreamCache
from world_models.dynamics import Dynamics

__all__ = ["NextFrame", "next_frame"]


class NextFrame(Protocol):
    """The next frame of B rows, whose past and action are known."""

    def logits(self, tokens: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits ``(R, N, K)`` of the frame, given those of its ``(R, N)`` tokens not hidden.

        Args:
            tokens: Of these rows.
            rows: Which, ``(R,)``; all, and in order, if none are left out.
        """

    def commit(self, tokens: Tensor) -> tuple[StreamCache, Tensor, Tensor]:
        """Make the frame part of the past; return that, its reward and its termination ``(B,)``."""


class _TwoStreamFrame:
    """Each pass sees the tokens known so far; the finished frame passes once more, as the past."""

    def __init__(
        self, dynamics: Dynamics, cache: StreamCache, action: Tensor, before: Tensor | None
    ):
        self.dynamics, self.cache, self.action = dynamics, cache, action
        self.seen = dynamics.see(before)
        self.plan = dynamics.transformer.plan(cache)
        self.table = dynamics.token_table()

    def logits(self, tokens: Tensor, rows: Tensor | None = None) -> Tensor:
        return self._pass(tokens, rows)[0]

    def commit(self, tokens: Tensor) -> tuple[StreamCache, Tensor, Tensor]:
        _, traces = self._pass(tokens)
        trace, reward, termination = self.dynamics.finish(traces)
        return self.cache.write(trace), reward, termination

    def _pass(self, tokens: Tensor, rows: Tensor | None = None) -> tuple[Tensor, list[LayerTrace]]:
        action, seen, plan = self.action, self.seen, self.plan
        if rows is not None and len(rows) < len(action):
            action, plan = action[rows], plan.rows(rows)
            seen = None if seen is None else seen[rows]
        return self.dynamics.step(tokens, action, plan, self.table, seen)


class _ShiftedFrame:
    """The frame *before*, with the action taken there, says it all in one pass."""

    def __init__(self, dynamics: Dynamics, cache: StreamCache, before: Tensor, action: Tensor):
        self.known, traces = dynamics.step(before, action, dynamics.transformer.plan(cache))
        trace, self.reward, self.termination = dynamics.finish(traces)
        self.cache = cache.write(trace)

    def logits(self, tokens: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.known if rows is None else self.known[rows]

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
