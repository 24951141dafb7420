"""Corruption of training episodes, from which the dynamics learns to correct mistakes in dreams.

A motion tokenizer can encode a frame relative to any previous frame. After corrupted tokens, the
previous frame is wrong, and the tokens of the next real frame correct it. The dynamics learns to
predict these tokens. Corrupted tokens are random (`RandomTokens`), or the world itself dreams them
(`SelfForcing`).

Shapes: B episodes, T frames, N tokens per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from world_models.inference.world import WorldModel
from world_models.model.token_space import NO_ACTION
from world_models.noise import RowNoise

__all__ = ["RandomTokens", "SelfForcing"]

ANY_TOKEN = 0.25  # fraction of wrong tokens drawn from all codes; others are copied from a patch


class RandomTokens:
    """Replaces random tokens: many in a few episodes, few in most.

    At most the fraction `share` of an episode's tokens is replaced.
    """

    def __init__(self, seeds: Tensor, share: float, num_codes: int):
        self._noise, self._num_codes = RowNoise(seeds), num_codes
        self._share = share * self._noise.rand(1).square()

    def __call__(self, tokens: Tensor, previous: Tensor) -> Tensor:
        """Corrupt a frame's tokens ``(B, N)``; see `Corrupt`."""
        num = tokens.shape[1]
        wrong, patch, any_, token = self._noise.rand(4, num).unbind(1)
        other = tokens.gather(1, (patch * num).long())
        other = torch.where(any_ < ANY_TOKEN, (token * self._num_codes).long(), other)
        return torch.where(wrong < self._share, other, tokens)


class SelfForcing:
    """Replaces frames with dreams of a world, given the frames so far (self-forcing).

    At most the fraction `share` of an episode's frames is replaced. The world must be in eval mode.
    """

    def __init__(self, world: WorldModel, actions: Tensor, seeds: Tensor, share: float):
        self._world, self._seeds = world, seeds
        first = torch.full_like(actions[:, :1], NO_ACTION)
        self._actions = torch.cat((first, actions), 1)
        self._cache = world.dynamics.transformer.empty_cache(len(seeds))
        self._last = seeds.new_zeros(len(seeds), world.tokenizer.space.num_tokens)
        self._noise, self._time = RowNoise(seeds), 0
        self._share = share * self._noise.rand(1)

    def __call__(self, tokens: Tensor, previous: Tensor) -> Tensor:
        """Corrupt a frame's tokens ``(B, N)``; see `Corrupt`."""
        dynamics, action = self._world.dynamics, self._actions[:, self._time]
        frame = dynamics.objective.next_frame(dynamics, self._cache, self._last, action, previous)
        shown = tokens
        if self._time:
            counters = torch.full_like(self._seeds, self._time)
            dreamed = self._world.sample(frame, self._seeds, counters).tokens
            shown = torch.where(self._noise.rand(1) < self._share, dreamed, tokens)
        self._cache, *_ = frame.commit(shown)
        self._last, self._time = shown, self._time + 1
        return shown
