"""Counter-based random numbers: a pure function of a row's seed and a counter.

A *row* is one batch item. A row's random numbers do not depend on the other rows in the batch, and
a saved state contains no random generator. The hash is SplitMix64's finaliser, computed with 64-bit
integers that wrap around.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["RowNoise", "uniform"]

GOLDEN = -0x61C8864680B583EB  # 2**64 / golden ratio, as int64
MIX_1 = -0x40A7B892E31B1A47
MIX_2 = -0x6B2FB644ECCEEE15


def uniform(seeds: Tensor, counters: Tensor, draw: int, num: int) -> Tensor:
    """Return ``num`` uniform numbers in [0, 1) per row, ``(B, num)``.

    The numbers depend on the row's seed and the row's counter (such as the frame number), both
    int64 ``(B,)``, and on `draw`, which numbers the draws with the same counters.
    """
    row = _mix(_mix(seeds) + counters * GOLDEN)
    place = torch.arange(num, device=seeds.device) + draw * num
    bits = _mix(row[:, None] + (place + 1) * GOLDEN)
    return _shift(bits, 40).float() * 2.0**-24


class RowNoise:
    """Successive random draws for the rows of a batch. Each row has a seed, int64 ``(B,)``.

    A row's draws depend only on the row's own seed, so training gives the same result however the
    rows are distributed over processes.
    """

    def __init__(self, seeds: Tensor):
        self._seeds, self._draws = seeds, 0

    @classmethod
    def like(cls, x: Tensor) -> RowNoise:
        """Return noise for the rows of ``x``, seeded by torch's global generator."""
        return cls(torch.randint(2**62, x.shape[:1], device=x.device))

    @classmethod
    def of(cls, batch: dict[str, Tensor]) -> RowNoise:
        """Return noise for a training batch.

        It is seeded by the batch's "seeds" ``(B,)`` or, without these, by torch's global generator.
        """
        return cls(batch["seeds"]) if "seeds" in batch else cls.like(batch["tokens"])

    def rand(self, *shape: int) -> Tensor:
        """Return uniform numbers in [0, 1), ``(B, *shape)``."""
        counters = torch.full_like(self._seeds, self._draws)
        self._draws += 1
        return uniform(self._seeds, counters, 0, math.prod(shape)).reshape(-1, *shape)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * MIX_1
    x = (x ^ _shift(x, 27)) * MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # >> alone repeats the sign bit
