"""Random numbers that are a function of where they are used, not of what was drawn before.

A row of a batch then has the same future whatever rows stand beside it, and a saved state needs
no generator. The hash is SplitMix64's finaliser over 64-bit integers that wrap around.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["uniform"]

GOLDEN = -0x61C8864680B583EB  # 2**64 / golden ratio, as int64
MIX_1 = -0x40A7B892E31B1A47
MIX_2 = -0x6B2FB644ECCEEE15


def uniform(seeds: Tensor, counters: Tensor, draw: int, num: int) -> Tensor:
    """Return ``num`` uniform numbers in [0, 1) per row, ``(B, num)``.

    Args:
        seeds: ``(B,)`` int64, whose future a row lives.
        counters: ``(B,)`` int64, where in that future it stands.
        draw: Which draw at that point.
        num: How many.
    """
    row = _mix(_mix(seeds) + counters * GOLDEN)
    place = torch.arange(num, device=seeds.device) + draw * num
    bits = _mix(row[:, None] + (place + 1) * GOLDEN)
    return _shift(bits, 40).float() * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * MIX_1
    x = (x ^ _shift(x, 27)) * MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # >> alone would repeat the sign
