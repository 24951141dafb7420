"""Corrupts training episodes, so that the dynamics model learns to correct mistakes in dreams.

A motion tokenizer can encode a frame relative to any previous frame. If the previous frame was
decoded from corrupted tokens, it is wrong, and the tokens of the next real frame correct it. The
dynamics model learns to predict these tokens. Corrupted tokens are either random (`RandomTokens`)
or dreamed by the world model itself (`SelfForcing`).

Shapes: B episodes, T frames, N tokens per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from world_models.inference.world import WorldModel
from world_models.model.token_space import NO_ACTION
from world_models.noise import RowNoise

__all__ = ["RandomTokens", "SelfForcing"]

ANY_TOKEN = 0.25  # fraction of wrong tokens drawn from all codes; the rest copy random patches


class RandomTokens:
    """Replaces tokens at random: many in a few episodes, few in most episodes.

    Each episode has its own probability that a token is replaced, which is at most `share`.
    """

    def __init__(self, seeds: Tensor, share: float, num_codes: int):
        self._noise, self._num_codes = RowNoise(seeds), num_codes
        self._share = share * self._noise.rand(1).square()

    def __call__(self, tokens: Tensor, previous: Tensor) -> Tensor:
        """Return corrupted tokens for a frame with tokens ``(B, N)``."""
        num = tokens.shape[1]
        wrong, patch, any_, token = self._noise.rand(4, num).unbind(1)
        other = tokens.gather(1, (patch * num).long())
        other = torch.where(any_ < ANY_TOKEN, (token * self._num_codes).long(), other)
        return torch.where(wrong < self._share, other, tokens)


class SelfForcing:
    """Replaces frames with frames that a world model dreams from the frames so far (self-forcing).

    Each episode has its own probability that a frame is replaced, ``1 - (1 - share)**u`` with u
    uniform in [0, 1]. It is at most `share`. With a share near 1, the mean numbers of successive
    dreamed frames are spread evenly on a logarithmic scale, from 1 to ``1 / (1 - share)``.

    The world model must be in eval mode.
    """

    def __init__(self, world: WorldModel, actions: Tensor, seeds: Tensor, share: float):
        self._world, self._seeds = world, seeds
        first = torch.full_like(actions[:, :1], NO_ACTION)
        self._actions = torch.cat((first, actions), 1)
        self._cache = world.dynamics.transformer.empty_cache(len(seeds))
        self._last = seeds.new_zeros(len(seeds), world.tokenizer.space.num_tokens)
        self._noise, self._time = RowNoise(seeds), 0
        self._share = 1 - (1 - share) ** self._noise.rand(1)

    def __call__(self, tokens: Tensor, previous: Tensor) -> Tensor:
        """Return corrupted tokens for a frame with tokens ``(B, N)``."""
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
