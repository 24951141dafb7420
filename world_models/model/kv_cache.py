"""The KV cache of a causal transformer: keys and values of past frames, in a ring buffer.

A *row* is one batch item: rows are independent sequences, and can have different lengths.

Shapes: L temporal layers, P convolutions (PEG), B batch, N tokens per frame, H heads, W past frames
in the window, E head dimension, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ROW_AXES", "CacheEntry", "KVCache"]

ROW_AXES = {"keys": 1, "values": 1, "tails": 2, "length": 0}
"""The axis along which each of a cache's tensors holds the rows."""


class CacheEntry(NamedTuple):
    """What one frame adds to the cache.

    Attributes:
        keys: Keys of all temporal layers, ``(L, B, N, H, E)``.
        values: Values of all temporal layers, ``(L, B, N, H, E)``.
        tails: Contributions of the frame's convolutions to the next frame and to the frame after
            that, ``(P, 2, B, N, D)``.
    """

    keys: Tensor
    values: Tensor
    tails: Tensor


@dataclass(frozen=True, kw_only=True)
class KVCache:
    """The past frames of B rows, as one transformer needs them.

    Each row keeps W past frames in W *slots* (positions along the axis W). A new frame overwrites
    slot ``length % W``, which holds the frame that leaves the window. The slot, and the order in
    which attention sums over the slots, depend only on the row. So the results for a row are
    bit-identical whatever the other rows are.

    `write` changes the cache in place: to keep the old cache, clone it first.

    Attributes:
        keys: Keys of past frames, ``(L, B, N, H, W, E)``.
        values: Values of past frames, ``(L, B, N, H, W, E)``.
        tails: Contributions of past frames' convolutions to the next frame and to the frame after
            that, ``(P, 2, B, N, D)``.
        length: Number of frames that each row has seen, ``(B,)`` int64.
    """

    keys: Tensor
    values: Tensor
    tails: Tensor
    length: Tensor

    @classmethod
    def empty(
        cls,
        like: Tensor,
        batch: int,
        *,
        ring: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0),
        tails: tuple[int, int, int] = (0, 0, 0),
    ) -> KVCache:
        """Create the cache for rows that have not seen any frame.

        By default, the cache keeps only the number of frames.

        Args:
            like: Tensor with the device and dtype to use.
            batch: Number of rows B.
            ring: The sizes (L, N, H, W, E) of the keys and values.
            tails: The sizes (P, N, D) of the tails.
        """
        shape = (ring[0], batch, *ring[1:])
        return cls(
            keys=like.new_zeros(shape),
            values=like.new_zeros(shape),
            tails=like.new_zeros(tails[0], 2, batch, *tails[1:]),
            length=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def ages(self) -> Tensor:
        """Return the age of each slot's frame, relative to the next frame: 1 to W, ``(B, W)``."""
        window = self.keys.shape[4]
        slots = torch.arange(window, device=self.keys.device)
        return (self.length[:, None] - 1 - slots) % window + 1

    def write(self, entry: CacheEntry | None) -> KVCache:
        """Add a frame in place, and return the cache with `length` increased.

        If `entry` is None, only `length` changes.
        """
        if entry is not None:
            if window := self.keys.shape[4]:
                _put(self.keys, self.length % window, entry.keys)
                _put(self.values, self.length % window, entry.values)
            self.tails[:, 0] = self.tails[:, 1] + entry.tails[:, 0]
            self.tails[:, 1] = entry.tails[:, 1]
        return replace(self, length=self.length + 1)

    def clone(self) -> KVCache:
        """Return a copy that shares no memory with this cache."""
        return KVCache(**{name: x.clone() for name, x in self.tensors().items()})

    def rows(self, index: Tensor) -> KVCache:
        """Return a copy of the rows in ``index`` (int64), in that order; rows may be repeated."""
        own = self.tensors().items()
        return KVCache(**{name: x.index_select(ROW_AXES[name], index) for name, x in own})

    def part(self, start: int, stop: int) -> KVCache:
        """Return rows `start` to `stop` - 1 as views of the same memory."""
        own, num = self.tensors().items(), stop - start
        return KVCache(**{name: x.narrow(ROW_AXES[name], start, num) for name, x in own})

    def put(self, index: Tensor, other: KVCache) -> None:
        """Replace the rows in ``index`` with the rows of ``other``, in place."""
        for name, x in self.tensors().items():
            x.index_copy_(ROW_AXES[name], index, getattr(other, name))

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the cache as a flat dict, for saving."""
        return {name: getattr(self, name) for name in ROW_AXES}


def _put(ring: Tensor, slot: Tensor, new: Tensor) -> None:
    """Write a frame ``(L, B, N, H, E)`` into each row's slot ``(B,)``."""
    if slot.device.type == "cpu":  # twice as fast as indexing
        for row, place in enumerate(slot.tolist()):
            ring[:, row, :, :, place] = new[:, row]
    else:
        rows = torch.arange(len(slot), device=slot.device)
        ring[:, rows, :, :, slot] = new.transpose(0, 1).to(ring.dtype)  # indexed axes come first
