"""The cosine schedule for sampling, and the masks and token noise for training.

Shapes: B batch, T frames, N tokens per frame.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from world_models.noise import RowNoise

__all__ = ["bernoulli_masks", "cosine_schedule", "replace_tokens", "schedule_masks"]


@cache
def cosine_schedule(steps: int, num_tokens: int) -> tuple[int, ...]:
    """Return how many tokens are masked before each of `steps` passes, and after the last (0)."""
    shares = (math.cos(math.pi / 2 * step / steps) for step in range(steps + 1))
    return tuple(math.floor(num_tokens * share + 1e-9) for share in shares)


def schedule_masks(like: Tensor, steps: int, noise: RowNoise) -> Tensor:
    """Mask as many tokens of each frame as are masked before a random pass of sampling.

    All passes are equally likely. At least one token of every frame is masked. The mask has the
    same shape ``(B, T, N)`` as `like`.
    """
    counts = [max(1, count) for count in cosine_schedule(steps, like.shape[-1])[:-1]]
    drawn = (noise.rand(like.shape[1]) * steps).long()
    count = torch.tensor(counts, device=like.device)[drawn]  # (B, T)
    rank = noise.rand(*like.shape[1:]).argsort(-1).argsort(-1)
    return rank < count[..., None]


def bernoulli_masks(like: Tensor, noise: RowNoise) -> Tensor:
    """Mask each token of ``like`` with a probability that is drawn once per call from [0.5, 1].

    The probability is drawn from torch's global generator, the masked tokens from ``noise``.
    """
    rate = torch.rand((), device=like.device) * 0.5 + 0.5
    return noise.rand(*like.shape[1:]) < rate


def replace_tokens(tokens: Tensor, most: float, num_codes: int, noise: RowNoise) -> Tensor:
    """Replace tokens ``(B, T, N)`` with random ones.

    The probability of replacing a token is drawn per clip from [0, ``most``).
    """
    if not most:
        return tokens
    shape = tokens.shape[1:]
    wrong = noise.rand(*shape) < noise.rand(1, 1) * most
    return torch.where(wrong, (noise.rand(*shape) * num_codes).long(), tokens)
