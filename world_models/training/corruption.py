"""What goes wrong on the way through an episode, so that dreams learn to mend themselves.

Tokens that say what changes can be told of any picture: those of the next real frame, told of a
picture that went wrong, mend it. What goes wrong is drawn at random, or dreamed by the world that
is to learn from it.

Shapes: B episodes side by side, T frames, N tokens per frame, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from world_models.dynamics import NO_ACTION
from world_models.next_frame import next_frame
from world_models.noise import RowNoise
from world_models.world import WorldModel

__all__ = ["DreamSlips", "Slip", "Slips"]

Slip = Callable[[Tensor, Tensor], Tensor]
"""From a frame's tokens ``(B, N)`` and the picture before it to the tokens that are shown."""

ANY_TOKEN = 0.25  # what is said instead is any token, not another patch's


class Slips:
    """Tokens that go wrong here and there: some episodes' often, most seldom.

    Args:
        seeds: Of each episode ``(B,)``.
        share: Of tokens that go wrong, at most.
        num_codes: How many different tokens there are.
    """

    def __init__(self, seeds: Tensor, share: float, num_codes: int):
        self._noise, self._num_codes = RowNoise(seeds), num_codes
        self._share = share * self._noise.rand(1).square()

    def __call__(self, tokens: Tensor, before: Tensor) -> Tensor:
        """See `Slip`."""
        num = tokens.shape[1]
        wrong, place, any_, token = self._noise.rand(4, num).unbind(1)
        other = tokens.gather(1, (place * num).long())
        other = torch.where(any_ < ANY_TOKEN, (token * self._num_codes).long(), other)
        return torch.where(wrong < self._share, other, tokens)


class DreamSlips:
    """Frames that are what a world dreams there, given what was shown before: some episodes' often.

    Args:
        world: In eval mode.
        actions: Of the episodes ``(B, T - 1)``.
        seeds: Of each episode ``(B,)``.
        share: Of frames that are dreamed, at most.
    """

    def __init__(self, world: WorldModel, actions: Tensor, seeds: Tensor, share: float):
        self._world, self._seeds = world, seeds
        first = torch.full_like(actions[:, :1], NO_ACTION)
        self._actions = torch.cat((first, actions), 1)
        self._cache = world.dynamics.transformer.open(len(seeds))
        self._last = seeds.new_zeros(len(seeds), world.tokenizer.num_tokens)
        self._noise, self._time = RowNoise(seeds), 0
        self._share = share * self._noise.rand(1)

    def __call__(self, tokens: Tensor, before: Tensor) -> Tensor:
        """See `Slip`."""
        action = self._actions[:, self._time]
        ahead = next_frame(self._world.dynamics, self._cache, self._last, action, before)
        shown = tokens
        if self._time:
            counters = torch.full_like(self._seeds, self._time)
            dreamed = self._world.sample(ahead, self._seeds, counters).tokens
            shown = torch.where(self._noise.rand(1) < self._share, dreamed, tokens)
        self._cache, *_ = ahead.commit(shown)
        self._last, self._time = shown, self._time + 1
        return shown
